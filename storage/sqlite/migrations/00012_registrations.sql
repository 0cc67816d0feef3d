-- +goose Up
CREATE TABLE registrations (
    client_id       TEXT PRIMARY KEY,
    client_epoch    INTEGER NOT NULL,
    digest          BLOB    NOT NULL,
    previous_digest BLOB,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX registrations_created_at ON registrations (created_at);

CREATE TABLE registration_tokens (
    digest     BLOB PRIMARY KEY,
    uses       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE registrations;
DROP TABLE registration_tokens;
