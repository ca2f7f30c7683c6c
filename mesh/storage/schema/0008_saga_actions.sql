-- What people did to sagas. It outlives the saga.
CREATE TABLE mesh_saga_actions (
  action_id      TEXT PRIMARY KEY,          -- a UUIDv7: in order of time
  saga_id        TEXT NOT NULL,
  action         TEXT NOT NULL,             -- CANCEL, RETRY, SKIP or RESOLVE
  principal      TEXT NOT NULL,             -- who
  reason         TEXT NOT NULL,             -- why, in their words
  effects        TEXT NOT NULL,             -- what it came to, a sentence a line
  correlation_id TEXT NOT NULL,
  traceparent    TEXT NOT NULL,
  acted_at       DOUBLE PRECISION NOT NULL
);
CREATE INDEX mesh_saga_actions_of_saga ON mesh_saga_actions (saga_id, action_id);

-- Which events a saga's timeline shows.
CREATE INDEX mesh_outbox_by_correlation ON mesh_outbox (correlation_id);
