-- +goose Up
-- What users prove who they are with, beside the password.
CREATE TABLE factors (
    id            uuid PRIMARY KEY,
    user_id       uuid        NOT NULL,
    type          text        NOT NULL, -- totp or passkey
    name          text        NOT NULL, -- the user's own
    material      bytea       NOT NULL, -- TOTP: the secret, sealed; a passkey: its public record, in JSON
    credential_id bytea UNIQUE,         -- of a passkey
    counter       bigint      NOT NULL, -- TOTP: the last step that a code was taken of; a passkey: its signature counter
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz
);
CREATE INDEX factors_user_id ON factors (user_id);
CREATE UNIQUE INDEX factors_totp ON factors (user_id) WHERE type = 'totp';

-- A code that is used is deleted.
CREATE TABLE recovery_codes (
    user_id uuid  NOT NULL,
    digest  bytea NOT NULL, -- SHA-256
    PRIMARY KEY (user_id, digest)
);

-- Guesses at second factors, counted before they are looked at; gone after a login as a whole.
CREATE TABLE factor_tries (
    user_id      uuid PRIMARY KEY,
    tries        integer     NOT NULL,
    window_start timestamptz NOT NULL DEFAULT now()
);

-- Challenges that a passkey has answered.
CREATE TABLE used_challenges (
    digest     bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

-- +goose Down
DROP TABLE factors, recovery_codes, factor_tries, used_challenges;
