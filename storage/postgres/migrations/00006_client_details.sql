-- +goose Up
ALTER TABLE clients ADD details jsonb NOT NULL DEFAULT '{}'; -- the members that no statement looks at; see clients.Details

-- What a scope lets a client do, in words for users.
CREATE TABLE scopes (
    name        text COLLATE "C" PRIMARY KEY,
    description text NOT NULL
);

-- +goose Down
DROP TABLE scopes;
ALTER TABLE clients DROP details;
