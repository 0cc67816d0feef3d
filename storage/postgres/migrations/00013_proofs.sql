-- +goose Up

-- What may be used once, such as the jti of a client assertion or of a DPoP proof, until it has expired anyway.
CREATE TABLE used_once (
    digest     bytea PRIMARY KEY,
    use        uuid        NOT NULL, -- so that a repetition after a lost answer is told from another use
    expires_at timestamptz NOT NULL
);
CREATE INDEX used_once_expires_at ON used_once (expires_at);

-- Authorization requests that clients have pushed (RFC 9126).
CREATE TABLE pushed_requests (
    digest     bytea PRIMARY KEY, -- of the request_uri's secret
    client_id  text COLLATE "C" NOT NULL,
    form       text        NOT NULL,
    browser    bytea,                -- digest of what tells the browser that began with it; NULL before
    expires_at timestamptz NOT NULL  -- until when a browser may begin
);
CREATE INDEX pushed_requests_expires_at ON pushed_requests (expires_at);

-- The thumbprint of the key that what is issued is bound to (RFC 9449). No refresh changes that of a session.
ALTER TABLE sessions ADD jkt text;
ALTER TABLE authorization_codes ADD jkt text NOT NULL DEFAULT '';

-- +goose Down
DROP TABLE used_once, pushed_requests;
ALTER TABLE sessions DROP jkt;
ALTER TABLE authorization_codes DROP jkt;
