-- +goose Up

-- What happened in each five minutes, for charts; see the package activity.
CREATE TABLE activity (
    bucket bigint NOT NULL, -- seconds since 1970, a multiple of 300
    kind   text   NOT NULL,
    count  bigint NOT NULL,
    PRIMARY KEY (bucket, kind)
);

-- +goose Down
DROP TABLE activity;
