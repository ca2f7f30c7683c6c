BEGIN TRANSACTION;
CREATE TABLE mesh_effects (
  principal      TEXT NOT NULL,
  method         TEXT NOT NULL,
  key            TEXT NOT NULL,
  request        BYTEA NOT NULL,
  correlation_id TEXT NOT NULL,
  traceparent    TEXT NOT NULL,
  PRIMARY KEY (principal, method, key)
);
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
CREATE TABLE mesh_migrations (name TEXT PRIMARY KEY);
INSERT INTO "mesh_migrations" VALUES('mesh/0001_keys.sql');
INSERT INTO "mesh_migrations" VALUES('mesh/0002_sagas.sql');
INSERT INTO "mesh_migrations" VALUES('0001_shipments.sql');
INSERT INTO "mesh_migrations" VALUES('0002_unshippable.sql');
CREATE TABLE mesh_saga_steps (
  saga_id       TEXT NOT NULL REFERENCES mesh_sagas (saga_id),
  position      BIGINT NOT NULL,
  target        TEXT NOT NULL,                -- the service's name, as clients dial it
  method        TEXT NOT NULL,
  request       BYTEA NOT NULL,
  state         BIGINT NOT NULL,              -- mesh.saga.v1.SagaStep.State
  answer        BYTEA,                        -- the reply, or a google.rpc.Status
  attempts      BIGINT NOT NULL DEFAULT 0,
  undo_method   TEXT NOT NULL DEFAULT '',
  undo_request  BYTEA,
  undo_state    BIGINT NOT NULL DEFAULT 0,    -- mesh.saga.v1.SagaStep.UndoState
  undo_attempts BIGINT NOT NULL DEFAULT 0,
  started_at    DOUBLE PRECISION NOT NULL,
  ended_at      DOUBLE PRECISION,
  PRIMARY KEY (saga_id, position)
);
CREATE TABLE mesh_sagas (
  saga_id          TEXT PRIMARY KEY,
  name             TEXT NOT NULL,
  version          BIGINT NOT NULL,
  key              TEXT NOT NULL,             -- what the caller knows it by
  request          BYTEA NOT NULL,
  state            BIGINT NOT NULL,           -- mesh.saga.v1.Saga.State
  epoch            BIGINT NOT NULL DEFAULT 0,
  resumes          BIGINT NOT NULL DEFAULT 0,
  cancel_reason    TEXT,                      -- set when somebody asked to cancel it
  pivoted          BIGINT NOT NULL DEFAULT 0, -- 1 once it can only go forward
  failed_step      TEXT NOT NULL DEFAULT '',
  refusal          BYTEA,                     -- google.rpc.Status
  correlation_id   TEXT NOT NULL,
  traceparent      TEXT NOT NULL,             -- of the root span
  segment          TEXT NOT NULL DEFAULT '',  -- of the span that ran it last
  created_at       DOUBLE PRECISION NOT NULL,
  updated_at       DOUBLE PRECISION NOT NULL,
  deadline_at      DOUBLE PRECISION NOT NULL,
  UNIQUE (name, key)
);
CREATE TABLE shipment_events (
  order_id TEXT NOT NULL REFERENCES shipments (order_id),
  state    BIGINT NOT NULL,
  time     DOUBLE PRECISION NOT NULL,
  note     TEXT NOT NULL,
  PRIMARY KEY (order_id, state)
);
CREATE TABLE shipment_lines (
  order_id TEXT NOT NULL REFERENCES shipments (order_id),
  number   BIGINT NOT NULL, -- in the order's sequence
  sku      TEXT NOT NULL,
  quantity BIGINT NOT NULL CHECK (quantity > 0),
  PRIMARY KEY (order_id, number)
);
CREATE TABLE shipments (
  order_id    TEXT NOT NULL PRIMARY KEY,
  position    TEXT NOT NULL UNIQUE,      -- a UUIDv7: shipments in the sequence they were planned
  user_id     TEXT NOT NULL,
  address     BYTEA NOT NULL,            -- google.type.PostalAddress
  state       BIGINT NOT NULL,           -- shop.shipping.v1.Shipment.State
  create_time DOUBLE PRECISION NOT NULL, -- seconds since the epoch, like every time here
  update_time DOUBLE PRECISION NOT NULL
);
CREATE TABLE unshippable_places (
  region_code   TEXT NOT NULL, -- CLDR, two letters
  postal_prefix TEXT NOT NULL, -- capitals and digits; '' is the whole region
  PRIMARY KEY (region_code, postal_prefix)
);
INSERT INTO "unshippable_places" VALUES('CU','');
INSERT INTO "unshippable_places" VALUES('IR','');
INSERT INTO "unshippable_places" VALUES('KP','');
INSERT INTO "unshippable_places" VALUES('SY','');
INSERT INTO "unshippable_places" VALUES('UA','95');
INSERT INTO "unshippable_places" VALUES('UA','96');
INSERT INTO "unshippable_places" VALUES('UA','97');
INSERT INTO "unshippable_places" VALUES('UA','98');
INSERT INTO "unshippable_places" VALUES('UA','99');
INSERT INTO "unshippable_places" VALUES('UA','83');
INSERT INTO "unshippable_places" VALUES('UA','84');
INSERT INTO "unshippable_places" VALUES('UA','85');
INSERT INTO "unshippable_places" VALUES('UA','86');
INSERT INTO "unshippable_places" VALUES('UA','87');
INSERT INTO "unshippable_places" VALUES('UA','91');
INSERT INTO "unshippable_places" VALUES('UA','92');
INSERT INTO "unshippable_places" VALUES('UA','93');
INSERT INTO "unshippable_places" VALUES('UA','94');
CREATE INDEX mesh_sagas_by_state ON mesh_sagas (state, saga_id);
CREATE INDEX shipments_of_user ON shipments (user_id, position);
COMMIT;
