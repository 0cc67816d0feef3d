-- +goose NO TRANSACTION

-- +goose Up
-- Whoever looks for a rare type of event, such as a theft, must not read all of the common ones. Built while logins go on;
-- one that was interrupted before is built anew.
DROP INDEX CONCURRENTLY IF EXISTS audit_events_type;
CREATE INDEX CONCURRENTLY audit_events_type ON audit_events (type, id);

-- +goose Down
DROP INDEX audit_events_type;
