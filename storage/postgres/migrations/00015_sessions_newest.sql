-- +goose NO TRANSACTION

-- +goose Up
-- Lists of sessions are newest first. No refresh changes when a session began. Built while refreshes go on; an index that was
-- interrupted before is built anew. Those with the user and with the client stand for the ones without the time, which go last.
-- The first one has a condition, true of all rows, so that the planner takes it for the list of everything alone: for a client
-- whose many sessions are all old it would walk past everybody else's.
DROP INDEX CONCURRENTLY IF EXISTS sessions_created_at;
CREATE INDEX CONCURRENTLY sessions_created_at ON sessions (created_at) WHERE created_at > '-infinity';
DROP INDEX CONCURRENTLY IF EXISTS sessions_user_id_created_at;
CREATE INDEX CONCURRENTLY sessions_user_id_created_at ON sessions (user_id, created_at);
DROP INDEX CONCURRENTLY IF EXISTS sessions_client_id_created_at;
CREATE INDEX CONCURRENTLY sessions_client_id_created_at ON sessions (client_id, created_at);
DROP INDEX CONCURRENTLY IF EXISTS sessions_user_id;
DROP INDEX CONCURRENTLY IF EXISTS sessions_client_id;

-- +goose Down
CREATE INDEX sessions_user_id ON sessions (user_id);
CREATE INDEX sessions_client_id ON sessions (client_id);
DROP INDEX sessions_created_at, sessions_user_id_created_at, sessions_client_id_created_at;
