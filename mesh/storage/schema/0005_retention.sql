-- What is forgotten: everything that was born before `low`. It only rises.
CREATE TABLE mesh_retention (
  id  BIGINT PRIMARY KEY CHECK (id = 1),
  low DOUBLE PRECISION NOT NULL -- seconds since the epoch
);
INSERT INTO mesh_retention (id, low) VALUES (1, 0);

CREATE INDEX mesh_outbox_published ON mesh_outbox (published_at) WHERE published_at IS NOT NULL;

-- The keys of sagas that were forgotten: they start nothing any more.
CREATE TABLE mesh_spent_keys (
  name TEXT NOT NULL,
  key  TEXT NOT NULL,
  PRIMARY KEY (name, key)
);
