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
INSERT INTO "mesh_keys" VALUES('orchestrator','/shop.shipping.v1.ShippingService/CreateShipment','01a2050c-4648-77f0-83f2-ef0c016e62d1/5',X'5B6F7999F831A556B19EE3892E10AAA5',1,X'0A063533363337301205313235383318013A0C089CAE8DD80610C0C6BE9903420C089CAE8DD80610C0C6BE9903',1.79538102085876035687e+09);
INSERT INTO "mesh_keys" VALUES('orchestrator','/shop.shipping.v1.ShippingService/CreateShipment','01a2050c-4647-7ca2-a87f-2ce124c27695/5',X'2DADFEDF2D29916B1D72739BF2D3B7EC',1,X'0A063533363336391205313330343718013A0C089CAE8DD80610A0A7B89B03420C089CAE8DD80610A0A7B89B03',1.79538102086285138126e+09);
INSERT INTO "mesh_keys" VALUES('orchestrator','/shop.shipping.v1.ShippingService/ReleaseShipment','01a2050c-4648-77f0-83f2-ef0c016e62d1/8',X'20693BF84E8D44BCB0CAEF7502D9D37D',1,X'0A063533363337301205313235383318023A0C089CAE8DD80610C0C6BE9903420C089CAE8DD80610E888C6A503',1.79538102088404893878e+09);
INSERT INTO "mesh_keys" VALUES('orchestrator','/shop.shipping.v1.ShippingService/ReleaseShipment','01a2050c-4647-7ca2-a87f-2ce124c27695/8',X'57AB70D3BBA0C2FC5E9803B21F5A47BE',1,X'0A063533363336391205313330343718023A0C089CAE8DD80610A0A7B89B03420C089CAE8DD8061098B5F6B803',1.79538102092468667032e+09);
CREATE TABLE mesh_migrations (name TEXT PRIMARY KEY);
INSERT INTO "mesh_migrations" VALUES('mesh/0001_keys.sql');
INSERT INTO "mesh_migrations" VALUES('mesh/0002_sagas.sql');
INSERT INTO "mesh_migrations" VALUES('0001_shipments.sql');
INSERT INTO "mesh_migrations" VALUES('0002_unshippable.sql');
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
CREATE TABLE shipments (
  order_id    TEXT NOT NULL PRIMARY KEY,
  position    TEXT NOT NULL UNIQUE,      -- a UUIDv7: shipments in the sequence they were planned
  user_id     TEXT NOT NULL,
  address     BYTEA NOT NULL,            -- google.type.PostalAddress
  state       BIGINT NOT NULL,           -- shop.shipping.v1.Shipment.State
  create_time DOUBLE PRECISION NOT NULL, -- seconds since the epoch, like every time here
  update_time DOUBLE PRECISION NOT NULL
);
INSERT INTO "shipments" VALUES('536370','01a2050c-48bb-7899-b17c-11da1df7339f','12583',X'120246524A09536F6D657768657265520E437573746F6D6572203132353833',2,1.79538102085876035687e+09,1.79538102088404893878e+09);
INSERT INTO "shipments" VALUES('536369','01a2050c-48be-75dd-b0a1-0e98ac0ce73e','13047',X'120247424A09536F6D657768657265520E437573746F6D6572203133303437',2,1.79538102086285138126e+09,1.79538102092468667032e+09);
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
CREATE TABLE shipment_events (
  order_id TEXT NOT NULL REFERENCES shipments (order_id),
  state    BIGINT NOT NULL,
  time     DOUBLE PRECISION NOT NULL,
  note     TEXT NOT NULL,
  PRIMARY KEY (order_id, state)
);
INSERT INTO "shipment_events" VALUES('536370',1,1.79538102085876035687e+09,'');
INSERT INTO "shipment_events" VALUES('536369',1,1.79538102086285138126e+09,'');
INSERT INTO "shipment_events" VALUES('536370',2,1.79538102088404893878e+09,'');
INSERT INTO "shipment_events" VALUES('536369',2,1.79538102092468667032e+09,'');
CREATE TABLE shipment_lines (
  order_id TEXT NOT NULL REFERENCES shipments (order_id),
  number   BIGINT NOT NULL, -- in the order's sequence
  sku      TEXT NOT NULL,
  quantity BIGINT NOT NULL CHECK (quantity > 0),
  PRIMARY KEY (order_id, number)
);
INSERT INTO "shipment_lines" VALUES('536370',1,'22728',24);
INSERT INTO "shipment_lines" VALUES('536370',2,'22727',24);
INSERT INTO "shipment_lines" VALUES('536370',3,'22726',12);
INSERT INTO "shipment_lines" VALUES('536370',4,'21724',12);
INSERT INTO "shipment_lines" VALUES('536370',5,'21883',24);
INSERT INTO "shipment_lines" VALUES('536370',6,'10002',48);
INSERT INTO "shipment_lines" VALUES('536370',7,'21791',24);
INSERT INTO "shipment_lines" VALUES('536370',8,'21035',18);
INSERT INTO "shipment_lines" VALUES('536370',9,'22326',24);
INSERT INTO "shipment_lines" VALUES('536370',10,'22629',24);
INSERT INTO "shipment_lines" VALUES('536370',11,'22659',24);
INSERT INTO "shipment_lines" VALUES('536370',12,'22631',24);
INSERT INTO "shipment_lines" VALUES('536370',13,'22661',20);
INSERT INTO "shipment_lines" VALUES('536370',14,'21731',24);
INSERT INTO "shipment_lines" VALUES('536370',15,'22900',24);
INSERT INTO "shipment_lines" VALUES('536370',16,'21913',12);
INSERT INTO "shipment_lines" VALUES('536370',17,'22540',24);
INSERT INTO "shipment_lines" VALUES('536370',18,'22544',24);
INSERT INTO "shipment_lines" VALUES('536370',19,'22492',36);
INSERT INTO "shipment_lines" VALUES('536370',20,'POST',3);
INSERT INTO "shipment_lines" VALUES('536369',1,'21756',3);
CREATE INDEX mesh_sagas_by_state ON mesh_sagas (state, saga_id);
CREATE INDEX shipments_of_user ON shipments (user_id, position);
COMMIT;
