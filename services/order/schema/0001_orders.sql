-- Orders: what was ordered, at which price, and every state it has been in.
CREATE TABLE orders (
  order_id    TEXT NOT NULL PRIMARY KEY,
  position    TEXT NOT NULL UNIQUE,      -- a UUIDv7: orders in the sequence they came in
  user_id     TEXT NOT NULL,
  currency    TEXT NOT NULL,             -- ISO 4217, of every amount of the order
  total_minor BIGINT NOT NULL,           -- the sum of quantity * unit_minor over its lines
  state       BIGINT NOT NULL,           -- shop.order.v1.Order.State
  create_time DOUBLE PRECISION NOT NULL, -- seconds since the epoch, like every time here
  update_time DOUBLE PRECISION NOT NULL
);
CREATE INDEX orders_of_user ON orders (user_id, position);

CREATE TABLE order_lines (
  order_id   TEXT NOT NULL REFERENCES orders (order_id),
  number     BIGINT NOT NULL, -- in the customer's sequence
  sku        TEXT NOT NULL,
  quantity   BIGINT NOT NULL CHECK (quantity > 0),
  unit_minor BIGINT NOT NULL CHECK (unit_minor > 0),
  PRIMARY KEY (order_id, number)
);

-- A state is entered at most once, and states are numbered in the sequence they are entered.
CREATE TABLE order_history (
  order_id TEXT NOT NULL REFERENCES orders (order_id),
  state    BIGINT NOT NULL,
  time     DOUBLE PRECISION NOT NULL,
  reason   TEXT NOT NULL,
  PRIMARY KEY (order_id, state)
);
