-- +goose Up
CREATE TABLE heartbeat (
    only_row INTEGER PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    beat_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE interruptions (
    ended_at INTEGER PRIMARY KEY,
    began_at INTEGER NOT NULL
) STRICT;

-- +goose Down
DROP TABLE heartbeat;
DROP TABLE interruptions;
