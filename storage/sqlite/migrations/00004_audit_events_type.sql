-- +goose Up
-- Whoever looks for a rare type of event, such as a theft, must not read all of the common ones.
CREATE INDEX audit_events_type ON audit_events (type, id);

-- +goose Down
DROP INDEX audit_events_type;
