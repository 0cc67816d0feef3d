-- +goose Up
ALTER TABLE signing_keys ADD token_ttl interval NOT NULL DEFAULT '0'; -- the longest life of an access token that it may have signed

-- +goose Down
ALTER TABLE signing_keys DROP token_ttl;
