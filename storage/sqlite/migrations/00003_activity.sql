-- +goose Up
CREATE TABLE activity (
    bucket INTEGER NOT NULL, -- seconds since 1970, a multiple of 300
    kind   TEXT    NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (bucket, kind)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE activity;
