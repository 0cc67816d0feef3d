-- +goose Up

-- Clients that have registered themselves (RFC 7591), and the tokens by which they manage that (RFC 7592).
CREATE TABLE registrations (
    client_id       text COLLATE "C" PRIMARY KEY,
    client_epoch    bigint      NOT NULL, -- of the client at first: another client of that id is not this one
    digest          bytea       NOT NULL, -- of the registration access token
    previous_digest bytea,                -- of the one before, until the newer one is used: its answer may have been lost
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX registrations_created_at ON registrations (created_at);

-- Initial access tokens, with which clients may register.
CREATE TABLE registration_tokens (
    digest     bytea PRIMARY KEY,
    uses       integer     NOT NULL, -- that are left
    expires_at timestamptz NOT NULL
);

-- +goose Down
DROP TABLE registrations, registration_tokens;
