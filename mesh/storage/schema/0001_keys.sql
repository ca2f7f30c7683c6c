-- One answer for each key, for ever: what a mutating call answered, or that it may never happen.
CREATE TABLE mesh_keys (
  principal    TEXT NOT NULL,
  method       TEXT NOT NULL,
  key          TEXT NOT NULL,
  request_hash BYTEA NOT NULL,
  state        BIGINT NOT NULL,           -- mesh.storage.keys.State
  answer       BYTEA,                     -- the reply, or a google.rpc.Status
  created_at   DOUBLE PRECISION NOT NULL, -- seconds since the epoch
  PRIMARY KEY (principal, method, key)
);

-- The effects whose outcome outside is not yet recorded. A row lives from intent to result.
CREATE TABLE mesh_effects (
  principal      TEXT NOT NULL,
  method         TEXT NOT NULL,
  key            TEXT NOT NULL,
  request        BYTEA NOT NULL,
  correlation_id TEXT NOT NULL,
  traceparent    TEXT NOT NULL,
  PRIMARY KEY (principal, method, key)
);
