-- +goose Up

-- Links that are good once: to set a new password, or to make an account. One at a time for whom it is for.
CREATE TABLE links (
    id         uuid        NOT NULL UNIQUE,
    digest     bytea       NOT NULL, -- of the link's secret
    purpose    text        NOT NULL,
    subject    text        NOT NULL, -- whom it is for: a user's id, or an address in lower case
    user_epoch bigint      NOT NULL, -- of the user: it is good only in this one
    email      text        NOT NULL, -- the address that it was mailed to, as it is written; empty: it was handed out
    invited    boolean     NOT NULL, -- somebody of ours asked for it, not whoever has the address
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (purpose, subject)
);

-- Mails that are still to be sent. What they say, links above all, is made when they are.
CREATE TABLE mails (
    id         uuid PRIMARY KEY,
    kind       text        NOT NULL,
    recipient  text        NOT NULL, -- an address or a username, as somebody typed it
    locales    text[]      NOT NULL, -- best first
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts   integer     NOT NULL DEFAULT 0,
    due_at     timestamptz NOT NULL DEFAULT now() -- the next attempt
);
CREATE INDEX mails_due_at ON mails (due_at);

-- +goose Down
DROP TABLE links, mails;
