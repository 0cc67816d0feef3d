-- +goose Up

-- Device authorization requests that wait for a user (RFC 8628). One that is approved becomes an authorization code of the same id.
CREATE TABLE device_codes (
    session_id   uuid PRIMARY KEY,        -- that the code will begin
    digest       bytea       NOT NULL,    -- of the device code's secret
    user_code    bytea       NOT NULL UNIQUE, -- keyed digest
    client_id    text COLLATE "C" NOT NULL,
    client_epoch bigint      NOT NULL,
    scope        text[]      NOT NULL,
    audience     text[]      NOT NULL,
    address      text        NOT NULL,    -- of the device
    user_agent   text        NOT NULL,
    decision     text        NOT NULL DEFAULT '', -- approved, denied; empty: none yet
    pause        interval    NOT NULL,    -- that the device has to make between two polls
    polled_at    timestamptz,             -- when it last kept to that
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX device_codes_expires_at ON device_codes (expires_at);

-- +goose Down
DROP TABLE device_codes;
