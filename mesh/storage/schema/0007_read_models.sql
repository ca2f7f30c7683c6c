-- The read models of a service that follows events: one serves, another may be built beside it.
CREATE TABLE mesh_read_models (
  name       TEXT PRIMARY KEY,          -- of its subscription
  number     BIGINT NOT NULL UNIQUE,
  state      BIGINT NOT NULL,           -- mesh.events.v1.ReadModel.State
  created_at DOUBLE PRECISION NOT NULL  -- seconds since the epoch
);
