-- +goose Up
ALTER TABLE device_codes ADD COLUMN polled_basic INTEGER;

-- +goose Down
ALTER TABLE device_codes DROP COLUMN polled_basic;
