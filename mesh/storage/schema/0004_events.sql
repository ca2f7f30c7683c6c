-- How many events each aggregate has had: its row is locked while one more is written.
CREATE TABLE mesh_aggregates (
  topic     TEXT NOT NULL,
  aggregate TEXT NOT NULL,
  version   BIGINT NOT NULL,
  PRIMARY KEY (topic, aggregate)
);

-- What this service published, written with the facts themselves.
CREATE TABLE mesh_outbox (
  topic          TEXT NOT NULL,             -- full name of the message type
  aggregate      TEXT NOT NULL,             -- what the event is about: the message's field 1
  version        BIGINT NOT NULL,           -- from 1, without a gap
  event_id       TEXT NOT NULL,
  payload        BYTEA NOT NULL,
  correlation_id TEXT NOT NULL,
  traceparent    TEXT NOT NULL,
  created_at     DOUBLE PRECISION NOT NULL, -- seconds since the epoch, like every time here
  published_at   DOUBLE PRECISION,          -- when the broker confirmed it
  PRIMARY KEY (topic, aggregate, version)
);
CREATE INDEX mesh_outbox_waiting ON mesh_outbox (event_id) WHERE published_at IS NULL;

-- How far each subscription is with each aggregate: what is not above `version` was applied.
CREATE TABLE mesh_inbox_heads (
  subscription TEXT NOT NULL,
  topic        TEXT NOT NULL,
  aggregate    TEXT NOT NULL,
  version      BIGINT NOT NULL,
  PRIMARY KEY (subscription, topic, aggregate)
);

-- What has arrived and is not applied yet.
CREATE TABLE mesh_inbox (
  subscription   TEXT NOT NULL,
  topic          TEXT NOT NULL,
  aggregate      TEXT NOT NULL,
  version        BIGINT NOT NULL,
  event_id       TEXT NOT NULL,
  payload        BYTEA NOT NULL,
  source         TEXT NOT NULL,
  created_at     DOUBLE PRECISION NOT NULL,
  correlation_id TEXT NOT NULL,
  traceparent    TEXT NOT NULL,
  state          BIGINT NOT NULL,           -- mesh.events.inbox.State
  attempts       BIGINT NOT NULL DEFAULT 0, -- that were answered: silence is not counted
  next_at        DOUBLE PRECISION NOT NULL, -- when it is tried again
  error          TEXT NOT NULL DEFAULT '',  -- of the last attempt: its reason and its id in the log
  PRIMARY KEY (subscription, topic, aggregate, version)
);
CREATE INDEX mesh_inbox_by_state ON mesh_inbox (subscription, state, next_at);

-- Who does what only one process of a service may do at a time.
CREATE TABLE mesh_leases (
  name       TEXT PRIMARY KEY,
  holder     TEXT NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL      -- on the database's clock
);
