-- +goose Up
CREATE INDEX sessions_created_at ON sessions (created_at);
CREATE INDEX sessions_user_id_created_at ON sessions (user_id, created_at);
CREATE INDEX sessions_client_id_created_at ON sessions (client_id, created_at);
DROP INDEX sessions_user_id;
DROP INDEX sessions_client_id;

-- +goose Down
CREATE INDEX sessions_user_id ON sessions (user_id);
CREATE INDEX sessions_client_id ON sessions (client_id);
DROP INDEX sessions_created_at;
DROP INDEX sessions_user_id_created_at;
DROP INDEX sessions_client_id_created_at;
