-- +goose Up

CREATE TABLE clients (
    id               text COLLATE "C" PRIMARY KEY,
    name             text        NOT NULL,
    grants           text[]      NOT NULL,
    auth_method      text        NOT NULL,
    scope            text[]      NOT NULL,
    audience         text[]      NOT NULL,
    redirect_uris    text[]      NOT NULL,
    browser_origins  text[]      NOT NULL,
    resource_server  boolean     NOT NULL,
    disabled         boolean     NOT NULL DEFAULT false,
    epoch            bigint      NOT NULL, -- random at first, raised when disabled: what began in another epoch is dead
    secret_digest    bytea,                -- SHA-256 of 256 random bits; NULL for a public client
    previous_digest  bytea,                -- the secret before, good until previous_until
    previous_until   timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    username      text        NOT NULL,
    canonical     text COLLATE "C" NOT NULL UNIQUE, -- the username without regard to case and composition
    password_hash text        NOT NULL,
    epoch         bigint      NOT NULL DEFAULT 0, -- raised to end all sessions at once
    admin         boolean     NOT NULL,
    disabled      boolean     NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- A refresh updates one row in place: no column that it changes is in any index, and every page keeps room for new
-- versions of its rows. What it changes stands together, at the end, to keep the log of an update short. There are
-- no foreign keys: a session looks at its user and client whenever it is used, and at each login they would be locked.
CREATE TABLE sessions (
    id              uuid PRIMARY KEY,
    user_id         uuid        NOT NULL,
    user_epoch      bigint      NOT NULL,
    client_epoch    bigint      NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL, -- the absolute end
    client_id       text COLLATE "C" NOT NULL,
    secret_digest   bytea       NOT NULL, -- SHA-256 of what its refresh tokens hold
    scope           text[]      NOT NULL,
    audience        text[]      NOT NULL,
    revoked_at      timestamptz,
    revoked_reason  text,
    sequence        bigint      NOT NULL DEFAULT 0, -- the number of the current refresh token
    last_used_at    timestamptz NOT NULL DEFAULT now(),
    idle_expires_at timestamptz NOT NULL,
    address         text        NOT NULL, -- of the last use
    user_agent      text        NOT NULL  -- likewise
) WITH (fillfactor = 40);
CREATE INDEX sessions_user_id ON sessions (user_id);
CREATE INDEX sessions_client_id ON sessions (client_id);

-- Access tokens that were revoked one by one. Those of an ended session need no row.
CREATE TABLE revoked_access_tokens (
    jti        text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX revoked_access_tokens_expires_at ON revoked_access_tokens (expires_at);

CREATE TABLE signing_keys (
    id          text PRIMARY KEY, -- the kid
    algorithm   text        NOT NULL,
    sealed      bytea       NOT NULL, -- the private key, encrypted under SIGNET_SECRET and bound to this row
    created_at  timestamptz NOT NULL DEFAULT now(),
    active_from timestamptz,
    retired_at  timestamptz
);
CREATE UNIQUE INDEX signing_keys_one_current ON signing_keys ((true)) WHERE active_from IS NOT NULL AND retired_at IS NULL;
CREATE UNIQUE INDEX signing_keys_one_next ON signing_keys ((true)) WHERE active_from IS NULL AND retired_at IS NULL;

-- Ids are UUIDs of version 7: they grow with time.
CREATE TABLE audit_events (
    id         uuid PRIMARY KEY,
    time       timestamptz NOT NULL DEFAULT now(),
    type       text        NOT NULL,
    actor      text        NOT NULL,
    client_id  text        NOT NULL,
    user_id    text        NOT NULL,
    session_id text        NOT NULL,
    address    text        NOT NULL,
    request_id text        NOT NULL,
    detail     text        NOT NULL
);
CREATE INDEX audit_events_user_id ON audit_events (user_id, id) WHERE user_id <> '';
CREATE INDEX audit_events_client_id ON audit_events (client_id, id) WHERE client_id <> '';

-- Failed logins, by keyed digests. An attempt is the digest of a username and a wrong password: tried again, it counts once.
CREATE TABLE login_failures (
    subject      bytea PRIMARY KEY, -- of a username or an address
    window_start timestamptz NOT NULL DEFAULT now(),
    attempts     bytea[]     NOT NULL
);

-- +goose Down
DROP TABLE clients, users, sessions, revoked_access_tokens, signing_keys, audit_events, login_failures;
