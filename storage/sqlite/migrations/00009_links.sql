-- +goose Up
CREATE TABLE links (
    id         TEXT    NOT NULL UNIQUE,
    digest     BLOB    NOT NULL,
    purpose    TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    user_epoch INTEGER NOT NULL,
    email      TEXT    NOT NULL,
    invited    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (purpose, subject)
) STRICT;

CREATE TABLE mails (
    id         TEXT PRIMARY KEY,
    kind       TEXT    NOT NULL,
    recipient  TEXT    NOT NULL,
    locales    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    due_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX mails_due_at ON mails (due_at);

-- +goose Down
DROP TABLE links;
DROP TABLE mails;
