-- +goose Up
ALTER TABLE clients ADD version bigint NOT NULL DEFAULT 1; -- raised by every change

-- +goose Down
ALTER TABLE clients DROP version;
