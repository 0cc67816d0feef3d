-- +goose Up
ALTER TABLE clients ADD version INTEGER NOT NULL DEFAULT 1;

-- +goose Down
ALTER TABLE clients DROP version;
