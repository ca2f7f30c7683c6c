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
INSERT INTO "mesh_keys" VALUES('local','/shop.user.v1.UserService/CreateUser','26dc94b26c5462d0/17850/user',X'038F11032B6985F18556177A4B3432D0',1,X'0A053137383530121A637573746F6D65722D3137383530406578616D706C652E636F6D1A0E437573746F6D65722031373835302001320267623A0C0898AE8DD80610C89680E402420C0898AE8DD80610C89680E402',1.79538101674658894541e+09);
INSERT INTO "mesh_keys" VALUES('local','/shop.user.v1.UserService/CreateUser','26dc94b26c5462d0/13047/user',X'4E42FAEA27260DD95A20E302EBB60F51',1,X'0A053133303437121A637573746F6D65722D3133303437406578616D706C652E636F6D1A0E437573746F6D65722031333034372001320267623A0C0898AE8DD80610D8D7ABE502420C0898AE8DD80610D8D7ABE502',1.79538101674939870838e+09);
CREATE TABLE mesh_migrations (name TEXT PRIMARY KEY);
INSERT INTO "mesh_migrations" VALUES('mesh/0001_keys.sql');
INSERT INTO "mesh_migrations" VALUES('mesh/0002_sagas.sql');
INSERT INTO "mesh_migrations" VALUES('0001_accounts.sql');
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
CREATE TABLE users (
  user_id            TEXT NOT NULL PRIMARY KEY,
  email              TEXT NOT NULL,             -- as the customer writes it
  email_key          TEXT NOT NULL UNIQUE,      -- the same without regard to case
  display_name       TEXT NOT NULL,
  state              BIGINT NOT NULL,           -- shop.user.v1.User.State
  default_address_id TEXT NOT NULL,             -- '' while the account has no address
  create_time        DOUBLE PRECISION NOT NULL, -- seconds since the epoch, like every time here
  update_time        DOUBLE PRECISION NOT NULL
);
INSERT INTO "users" VALUES('17850','customer-17850@example.com','customer-17850@example.com','Customer 17850',1,'gb',1.79538101674658894541e+09,1.79538101674658894541e+09);
INSERT INTO "users" VALUES('13047','customer-13047@example.com','customer-13047@example.com','Customer 13047',1,'gb',1.79538101674939870838e+09,1.79538101674939870838e+09);
INSERT INTO "users" VALUES('12583','customer-12583@example.com','customer-12583@example.com','Customer 12583',1,'fr',1.79538101674958252909e+09,1.79538101674958252909e+09);
INSERT INTO "users" VALUES('13748','customer-13748@example.com','customer-13748@example.com','Customer 13748',1,'gb',1.79538101674965929984e+09,1.79538101674965929984e+09);
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
CREATE TABLE user_addresses (
  user_id        TEXT NOT NULL REFERENCES users (user_id),
  address_id     TEXT NOT NULL,
  number         BIGINT NOT NULL, -- in the order they were added
  label          TEXT NOT NULL,
  postal_address BYTEA NOT NULL,  -- google.type.PostalAddress
  PRIMARY KEY (user_id, address_id)
);
INSERT INTO "user_addresses" VALUES('17850','gb',1,'',X'120247424A09536F6D657768657265520E437573746F6D6572203137383530');
INSERT INTO "user_addresses" VALUES('13047','gb',1,'',X'120247424A09536F6D657768657265520E437573746F6D6572203133303437');
INSERT INTO "user_addresses" VALUES('12583','fr',1,'',X'120246524A09536F6D657768657265520E437573746F6D6572203132353833');
INSERT INTO "user_addresses" VALUES('13748','gb',1,'',X'120247424A09536F6D657768657265520E437573746F6D6572203133373438');
CREATE TABLE user_state_changes (
  change_id TEXT NOT NULL PRIMARY KEY, -- a UUIDv7: in order of time
  user_id   TEXT NOT NULL REFERENCES users (user_id),
  state     BIGINT NOT NULL,           -- the state entered
  time      DOUBLE PRECISION NOT NULL,
  reason    TEXT NOT NULL
);
CREATE INDEX mesh_sagas_by_state ON mesh_sagas (state, saga_id);
COMMIT;
