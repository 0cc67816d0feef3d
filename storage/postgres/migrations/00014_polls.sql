-- +goose Up
ALTER TABLE device_codes ADD COLUMN polled_basic boolean; -- whether the client authenticated by HTTP Basic at polled_at

-- +goose Down
ALTER TABLE device_codes DROP COLUMN polled_basic;
