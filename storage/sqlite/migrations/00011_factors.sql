-- +goose Up
CREATE TABLE factors (
    id            TEXT PRIMARY KEY,
    user_id       TEXT    NOT NULL,
    type          TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    material      BLOB    NOT NULL,
    credential_id BLOB UNIQUE,
    counter       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    last_used_at  INTEGER
) STRICT;
CREATE INDEX factors_user_id ON factors (user_id);
CREATE UNIQUE INDEX factors_totp ON factors (user_id) WHERE type = 'totp';

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL,
    digest  BLOB NOT NULL,
    PRIMARY KEY (user_id, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE factor_tries (
    user_id      TEXT PRIMARY KEY,
    tries        INTEGER NOT NULL,
    window_start INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE used_challenges (
    digest     BLOB PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE factors;
DROP TABLE recovery_codes;
DROP TABLE factor_tries;
DROP TABLE used_challenges;
