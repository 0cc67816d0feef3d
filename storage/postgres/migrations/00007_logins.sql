-- +goose NO TRANSACTION

-- +goose Up
-- A browser that is logged in. Nothing is written when a login is used.
CREATE TABLE IF NOT EXISTS logins (
    id            uuid PRIMARY KEY, -- the sid of ID tokens
    user_id       uuid        NOT NULL,
    user_epoch    bigint      NOT NULL,
    secret_digest bytea       NOT NULL, -- SHA-256 of what the cookie holds; a new one whenever the user proves who they are
    auth_time     timestamptz NOT NULL DEFAULT now(),
    amr           text[]      NOT NULL,
    acr           text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    address       text        NOT NULL,
    user_agent    text        NOT NULL
);
CREATE INDEX IF NOT EXISTS logins_user_id ON logins (user_id);

-- Authorization codes. A code that is redeemed becomes the session of its id.
CREATE TABLE IF NOT EXISTS authorization_codes (
    session_id    uuid PRIMARY KEY,
    digest        bytea       NOT NULL, -- of the code's secret
    client_id     text COLLATE "C" NOT NULL,
    client_epoch  bigint      NOT NULL,
    user_id       uuid        NOT NULL,
    user_epoch    bigint      NOT NULL,
    login_id      uuid        NOT NULL,
    redirect_uri  text        NOT NULL,
    redirect_sent boolean     NOT NULL, -- the request named it, so that the redemption has to
    challenge     text        NOT NULL, -- empty: none was sent
    scope         text[]      NOT NULL,
    audience      text[]      NOT NULL,
    nonce         text        NOT NULL,
    openid        text,                 -- as in sessions
    consented     boolean     NOT NULL, -- good only while the consent is
    ends_with_login boolean   NOT NULL, -- as in sessions
    failures      integer     NOT NULL DEFAULT 0,
    expires_at    timestamptz NOT NULL
);

-- What users have allowed clients. It counts for the client as it was then: the same epoch, the same redirect URIs.
CREATE TABLE IF NOT EXISTS consents (
    user_id      uuid        NOT NULL,
    client_id    text COLLATE "C" NOT NULL,
    client_epoch bigint      NOT NULL,
    redirects    bytea       NOT NULL, -- SHA-256 of the redirect URIs
    scope        text[]      NOT NULL,
    audience     text[]      NOT NULL,
    granted_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, client_id)
);

-- Clients that are still to be told that a login has ended (OpenID Connect Back-Channel Logout 1.0).
CREATE TABLE IF NOT EXISTS logout_notices (
    login_id   uuid        NOT NULL,
    client_id  text COLLATE "C" NOT NULL,
    user_id    uuid        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts   integer     NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL DEFAULT now(), -- the next attempt
    PRIMARY KEY (login_id, client_id)
);
CREATE INDEX IF NOT EXISTS logout_notices_due_at ON logout_notices (due_at);

ALTER TABLE sessions
    ADD COLUMN IF NOT EXISTS login_id uuid, -- the browser login that it began in
    ADD COLUMN IF NOT EXISTS ends_with_login boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS openid text; -- JSON: what its ID tokens say of the authentication; NULL without OpenID Connect

-- What may be shown of a user, as JSON. A verified address, in lower case, is one user's.
ALTER TABLE users
    ADD COLUMN IF NOT EXISTS profile jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS verified_email text CONSTRAINT users_verified_email_key UNIQUE;

-- Keys of several algorithms: one current and one next of each.
DROP INDEX IF EXISTS signing_keys_one_current;
DROP INDEX IF EXISTS signing_keys_one_next;
CREATE UNIQUE INDEX IF NOT EXISTS signing_keys_current ON signing_keys (algorithm) WHERE active_from IS NOT NULL AND retired_at IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS signing_keys_next ON signing_keys (algorithm) WHERE active_from IS NULL AND retired_at IS NULL;

-- No refresh changes the login. Built while refreshes go on; one that was interrupted before is built anew.
DROP INDEX CONCURRENTLY IF EXISTS sessions_login_id;
CREATE INDEX CONCURRENTLY sessions_login_id ON sessions (login_id) WHERE login_id IS NOT NULL;

-- +goose Down
DROP TABLE logins, authorization_codes, consents, logout_notices;
ALTER TABLE users DROP profile, DROP verified_email;
ALTER TABLE sessions DROP login_id, DROP ends_with_login, DROP openid;
