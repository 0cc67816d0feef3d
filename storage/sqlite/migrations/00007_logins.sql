-- +goose Up
CREATE TABLE logins (
    id            TEXT PRIMARY KEY,
    user_id       TEXT    NOT NULL,
    user_epoch    INTEGER NOT NULL,
    secret_digest BLOB    NOT NULL,
    auth_time     INTEGER NOT NULL,
    amr           TEXT    NOT NULL,
    acr           TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    ended_at      INTEGER,
    address       TEXT    NOT NULL,
    user_agent    TEXT    NOT NULL
) STRICT;
CREATE INDEX logins_user_id ON logins (user_id);

CREATE TABLE authorization_codes (
    session_id    TEXT PRIMARY KEY,
    digest        BLOB    NOT NULL,
    client_id     TEXT    NOT NULL,
    client_epoch  INTEGER NOT NULL,
    user_id       TEXT    NOT NULL,
    user_epoch    INTEGER NOT NULL,
    login_id      TEXT    NOT NULL,
    redirect_uri  TEXT    NOT NULL,
    redirect_sent INTEGER NOT NULL,
    challenge     TEXT    NOT NULL,
    scope         TEXT    NOT NULL,
    audience      TEXT    NOT NULL,
    nonce         TEXT    NOT NULL,
    openid        TEXT,
    consented     INTEGER NOT NULL,
    ends_with_login INTEGER NOT NULL,
    failures      INTEGER NOT NULL DEFAULT 0,
    expires_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE consents (
    user_id      TEXT    NOT NULL,
    client_id    TEXT    NOT NULL,
    client_epoch INTEGER NOT NULL,
    redirects    BLOB    NOT NULL,
    scope        TEXT    NOT NULL,
    audience     TEXT    NOT NULL,
    granted_at   INTEGER NOT NULL,
    PRIMARY KEY (user_id, client_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE logout_notices (
    login_id   TEXT    NOT NULL,
    client_id  TEXT    NOT NULL,
    user_id    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_at     INTEGER NOT NULL,
    PRIMARY KEY (login_id, client_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX logout_notices_due_at ON logout_notices (due_at);

ALTER TABLE sessions ADD login_id TEXT;
ALTER TABLE sessions ADD ends_with_login INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD openid TEXT;
CREATE INDEX sessions_login_id ON sessions (login_id) WHERE login_id IS NOT NULL;

ALTER TABLE users ADD profile TEXT NOT NULL DEFAULT '{}';
ALTER TABLE users ADD verified_email TEXT;
CREATE UNIQUE INDEX users_verified_email ON users (verified_email);

DROP INDEX signing_keys_one_current;
DROP INDEX signing_keys_one_next;
CREATE UNIQUE INDEX signing_keys_current ON signing_keys (algorithm) WHERE active_from IS NOT NULL AND retired_at IS NULL;
CREATE UNIQUE INDEX signing_keys_next ON signing_keys (algorithm) WHERE active_from IS NULL AND retired_at IS NULL;

-- +goose Down
DROP INDEX sessions_login_id;
ALTER TABLE sessions DROP login_id;
ALTER TABLE sessions DROP ends_with_login;
ALTER TABLE sessions DROP openid;
DROP INDEX users_verified_email;
ALTER TABLE users DROP verified_email;
ALTER TABLE users DROP profile;
DROP TABLE logins;
DROP TABLE authorization_codes;
DROP TABLE consents;
DROP TABLE logout_notices;
