-- Shipments: what is sent where, and every state it has been in.
CREATE TABLE shipments (
  order_id    TEXT NOT NULL PRIMARY KEY,
  position    TEXT NOT NULL UNIQUE,      -- a UUIDv7: shipments in the sequence they were planned
  user_id     TEXT NOT NULL,
  address     BYTEA NOT NULL,            -- google.type.PostalAddress
  state       BIGINT NOT NULL,           -- shop.shipping.v1.Shipment.State
  create_time DOUBLE PRECISION NOT NULL, -- seconds since the epoch, like every time here
  update_time DOUBLE PRECISION NOT NULL
);
CREATE INDEX shipments_of_user ON shipments (user_id, position);

CREATE TABLE shipment_lines (
  order_id TEXT NOT NULL REFERENCES shipments (order_id),
  number   BIGINT NOT NULL, -- in the order's sequence
  sku      TEXT NOT NULL,
  quantity BIGINT NOT NULL CHECK (quantity > 0),
  PRIMARY KEY (order_id, number)
);

-- A state is entered at most once, and states are numbered in the sequence they are entered.
CREATE TABLE shipment_events (
  order_id TEXT NOT NULL REFERENCES shipments (order_id),
  state    BIGINT NOT NULL,
  time     DOUBLE PRECISION NOT NULL,
  note     TEXT NOT NULL,
  PRIMARY KEY (order_id, state)
);
