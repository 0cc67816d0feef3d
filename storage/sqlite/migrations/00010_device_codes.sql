-- +goose Up
CREATE TABLE device_codes (
    session_id   TEXT PRIMARY KEY,
    digest       BLOB    NOT NULL,
    user_code    BLOB    NOT NULL UNIQUE,
    client_id    TEXT    NOT NULL,
    client_epoch INTEGER NOT NULL,
    scope        TEXT    NOT NULL,
    audience     TEXT    NOT NULL,
    address      TEXT    NOT NULL,
    user_agent   TEXT    NOT NULL,
    decision     TEXT    NOT NULL DEFAULT '',
    pause        INTEGER NOT NULL,
    polled_at    INTEGER,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX device_codes_expires_at ON device_codes (expires_at);

-- +goose Down
DROP TABLE device_codes;
