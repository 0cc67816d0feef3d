-- +goose Up

-- When a replica last saw to it that the database is there: one row, renewed every second by whichever comes first.
CREATE TABLE heartbeat (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    beat_at  timestamptz NOT NULL
);

-- Times in which nobody renewed the heartbeat: the database was away, or every replica. The retry window does not run in them.
CREATE TABLE interruptions (
    ended_at timestamptz PRIMARY KEY, -- the first heartbeat after it
    began_at timestamptz NOT NULL     -- the last heartbeat before it
);

-- +goose Down
DROP TABLE heartbeat, interruptions;
