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
INSERT INTO "charges" VALUES('charge/536366','01a20669-359b-78ee-8cd8-d1571555d0b8',X'A1FF90877C9326627549CB55E3323CCB','GBP',2220,2,'INSUFFICIENT_FUNDS','536366',1.79540388802746820446e+09,NULL);
INSERT INTO "charges" VALUES('charge/536367','01a20669-35a2-71c7-9356-dbfb8eceaeb5',X'028B3DC20D76A3E83585828344BC1D19','GBP',27873,2,'INSUFFICIENT_FUNDS','536367',1.79540388803478026397e+09,NULL);
INSERT INTO "charges" VALUES('charge/536369','01a20669-35a2-7627-9402-4b929dcf8443',X'898978EEBF211717C03ADCA30591597B','GBP',1785,1,'','536369',1.79540388803493881223e+09,NULL);
INSERT INTO "charges" VALUES('charge/536370','01a20669-35a3-7414-b4ca-8c8ffb479422',X'A88A6EDD272EC6A5819A5775DDFF265B','GBP',85586,1,'','536370',1.79540388803499841689e+09,NULL);
INSERT INTO "charges" VALUES('charge/536372','01a20669-35a3-7cdf-9b53-df79b9ca68f1',X'43C280EB9307A161D2C0598DA9308101','GBP',2220,1,'','536372',1.79540388803504157065e+09,NULL);
INSERT INTO "charges" VALUES('charge/536373','01a20669-35a3-7870-82d2-65f4a5bec522',X'AB1F58DDC6FB10A228AF2772F027A075','GBP',25986,1,'','536373',1.79540388803507876399e+09,NULL);
INSERT INTO "charges" VALUES('charge/536374','01a20669-35a3-7011-bfe4-6d28242ccdc3',X'03D25E1BBDC3D84DCBE416BD277A870C','GBP',35040,1,'','536374',1.79540388803511333465e+09,NULL);
INSERT INTO "charges" VALUES('charge/536375','01a20669-35a3-76e3-8a3a-72c06fcb6be6',X'E2525E8C5911BE2B11D595FBC17136B5','GBP',25986,1,'','536375',1.79540388803514981272e+09,NULL);
INSERT INTO "charges" VALUES('charge/536377','01a20669-35d5-78d3-8d23-7e74edfb0a31',X'C85935490AF7D49651ADEF6F6933B76F','GBP',2220,1,'','536377',1.79540388808543610577e+09,NULL);
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
CREATE TABLE refunds (
  key          TEXT NOT NULL PRIMARY KEY,
  charge_key   TEXT NOT NULL REFERENCES charges (key),
  request_hash BYTEA NOT NULL,
  create_time  DOUBLE PRECISION NOT NULL
);
CREATE TABLE slow_charges (
  key         TEXT NOT NULL PRIMARY KEY,
  create_time DOUBLE PRECISION NOT NULL
);
CREATE INDEX mesh_sagas_by_state ON mesh_sagas (state, saga_id);
COMMIT;
