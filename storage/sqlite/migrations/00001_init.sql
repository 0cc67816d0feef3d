-- +goose Up

-- Times are microseconds since 1970, lists are JSON arrays, UUIDs are text. What the columns mean is said once, in the
-- schema for Postgres.
CREATE TABLE clients (
    id               TEXT PRIMARY KEY,
    name             TEXT    NOT NULL,
    grants           TEXT    NOT NULL,
    auth_method      TEXT    NOT NULL,
    scope            TEXT    NOT NULL,
    audience         TEXT    NOT NULL,
    redirect_uris    TEXT    NOT NULL,
    browser_origins  TEXT    NOT NULL,
    resource_server  INTEGER NOT NULL,
    disabled         INTEGER NOT NULL DEFAULT 0,
    epoch            INTEGER NOT NULL,
    secret_digest    BLOB,
    previous_digest  BLOB,
    previous_until   INTEGER,
    created_at       INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    username      TEXT    NOT NULL,
    canonical     TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    epoch         INTEGER NOT NULL DEFAULT 0,
    admin         INTEGER NOT NULL,
    disabled      INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    id              TEXT PRIMARY KEY,
    user_id         TEXT    NOT NULL,
    user_epoch      INTEGER NOT NULL,
    client_epoch    INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    client_id       TEXT    NOT NULL,
    secret_digest   BLOB    NOT NULL,
    scope           TEXT    NOT NULL,
    audience        TEXT    NOT NULL,
    revoked_at      INTEGER,
    revoked_reason  TEXT,
    sequence        INTEGER NOT NULL DEFAULT 0,
    last_used_at    INTEGER NOT NULL,
    idle_expires_at INTEGER NOT NULL,
    address         TEXT    NOT NULL,
    user_agent      TEXT    NOT NULL
) STRICT;
CREATE INDEX sessions_user_id ON sessions (user_id);
CREATE INDEX sessions_client_id ON sessions (client_id);

CREATE TABLE revoked_access_tokens (
    jti        TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX revoked_access_tokens_expires_at ON revoked_access_tokens (expires_at);

CREATE TABLE signing_keys (
    id          TEXT PRIMARY KEY,
    algorithm   TEXT    NOT NULL,
    sealed      BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    active_from INTEGER,
    retired_at  INTEGER
) STRICT;
CREATE UNIQUE INDEX signing_keys_one_current ON signing_keys ((1)) WHERE active_from IS NOT NULL AND retired_at IS NULL;
CREATE UNIQUE INDEX signing_keys_one_next ON signing_keys ((1)) WHERE active_from IS NULL AND retired_at IS NULL;

CREATE TABLE audit_events (
    id         TEXT PRIMARY KEY,
    time       INTEGER NOT NULL,
    type       TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    client_id  TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    detail     TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_events_user_id ON audit_events (user_id, id) WHERE user_id <> '';
CREATE INDEX audit_events_client_id ON audit_events (client_id, id) WHERE client_id <> '';

CREATE TABLE login_failures (
    subject      BLOB PRIMARY KEY,
    window_start INTEGER NOT NULL,
    attempts     TEXT    NOT NULL
) STRICT;

-- +goose Down
DROP TABLE clients;
DROP TABLE users;
DROP TABLE sessions;
DROP TABLE revoked_access_tokens;
DROP TABLE signing_keys;
DROP TABLE audit_events;
DROP TABLE login_failures;
