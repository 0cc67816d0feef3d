-- +goose Up
ALTER TABLE clients ADD details TEXT NOT NULL DEFAULT '{}';

CREATE TABLE scopes (
    name        TEXT PRIMARY KEY,
    description TEXT NOT NULL
) STRICT;

-- +goose Down
DROP TABLE scopes;
ALTER TABLE clients DROP details;
