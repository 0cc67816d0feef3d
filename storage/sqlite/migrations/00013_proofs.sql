-- +goose Up

CREATE TABLE used_once (
    digest     BLOB    NOT NULL PRIMARY KEY,
    use        TEXT    NOT NULL, -- so that a repetition after a lost answer is told from another use
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_once_expires_at ON used_once (expires_at);

CREATE TABLE pushed_requests (
    digest     BLOB    NOT NULL PRIMARY KEY,
    client_id  TEXT    NOT NULL,
    form       TEXT    NOT NULL,
    browser    BLOB,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX pushed_requests_expires_at ON pushed_requests (expires_at);

ALTER TABLE sessions ADD COLUMN jkt TEXT;
ALTER TABLE authorization_codes ADD COLUMN jkt TEXT NOT NULL DEFAULT '';

-- +goose Down
DROP TABLE used_once;
DROP TABLE pushed_requests;
ALTER TABLE sessions DROP COLUMN jkt;
ALTER TABLE authorization_codes DROP COLUMN jkt;
