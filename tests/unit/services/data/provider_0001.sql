BEGIN TRANSACTION;
CREATE TABLE charges (
  key            TEXT NOT NULL PRIMARY KEY,
  charge_id      TEXT NOT NULL UNIQUE,      -- a UUIDv7: in order of time
  request_hash   BYTEA NOT NULL,
  currency       TEXT NOT NULL,
  amount_minor   BIGINT NOT NULL CHECK (amount_minor > 0), -- in the currency's minor units
  state          BIGINT NOT NULL,           -- shop.provider.v1.Charge.State
  decline_reason TEXT NOT NULL,
  reference      TEXT NOT NULL,
  create_time    DOUBLE PRECISION NOT NULL, -- seconds since the epoch, like every time here
  refund_time    DOUBLE PRECISION
);
INSERT INTO "charges" VALUES('charge/536367','01a2050c-47bf-7ee4-9ef3-bf6af7d781c7',X'028B3DC20D76A3E83585828344BC1D19','GBP',27873,2,'INSUFFICIENT_FUNDS','536367',1.79538102060738348963e+09,NULL);
INSERT INTO "charges" VALUES('charge/536366','01a2050c-47fd-7c90-82d9-0dd5ac6e124e',X'A1FF90877C9326627549CB55E3323CCB','GBP',2220,2,'INSUFFICIENT_FUNDS','536366',1.79538102066926121705e+09,NULL);
INSERT INTO "charges" VALUES('charge/536369','01a2050c-47fd-760b-8fc6-73aaea25ac34',X'898978EEBF211717C03ADCA30591597B','GBP',1785,1,'','536369',1.79538102066941213609e+09,NULL);
INSERT INTO "charges" VALUES('charge/536370','01a2050c-4811-7608-b014-a52ada77ba22',X'A88A6EDD272EC6A5819A5775DDFF265B','GBP',85586,1,'','536370',1.79538102068944215774e+09,NULL);
INSERT INTO "charges" VALUES('charge/536371','01a2050c-4811-7771-9f52-877759334378',X'0F3E662D3EB5E3F98D1AF2B4520BAB79','GBP',20400,2,'INSUFFICIENT_FUNDS','536371',1.79538102068966650966e+09,NULL);
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
INSERT INTO "mesh_migrations" VALUES('0001_charges.sql');
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
CREATE TABLE slow_charges (
  key         TEXT NOT NULL PRIMARY KEY,
  create_time DOUBLE PRECISION NOT NULL
);
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
CREATE TABLE refunds (
  key          TEXT NOT NULL PRIMARY KEY,
  charge_key   TEXT NOT NULL REFERENCES charges (key),
  request_hash BYTEA NOT NULL,
  create_time  DOUBLE PRECISION NOT NULL
);
CREATE INDEX mesh_sagas_by_state ON mesh_sagas (state, saga_id);
COMMIT;
