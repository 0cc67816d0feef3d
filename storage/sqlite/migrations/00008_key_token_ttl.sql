-- +goose Up
ALTER TABLE signing_keys ADD token_ttl INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE signing_keys DROP token_ttl;
