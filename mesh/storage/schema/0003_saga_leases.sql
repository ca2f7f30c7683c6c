-- One row for each engine that lives. A saga names the engine that runs it as its owner; an
-- unfinished one whose owner has no row here, or is nobody (''), is for whoever claims it.
CREATE TABLE mesh_saga_engines (
  engine_id  TEXT PRIMARY KEY,          -- one life of an engine, a UUIDv7
  instance   TEXT NOT NULL,             -- its process; the next life of that ends this one's lease
  expires_at DOUBLE PRECISION NOT NULL  -- by the database's clock
);

ALTER TABLE mesh_sagas ADD COLUMN owner TEXT NOT NULL DEFAULT '';

-- What dead engines left comes before what nobody has begun.
CREATE INDEX mesh_sagas_unfinished ON mesh_sagas (owner DESC, saga_id) WHERE state IN (1, 2, 4);
