-- What is sold, and the price list.
CREATE TABLE items (
  sku         TEXT NOT NULL PRIMARY KEY,
  description TEXT NOT NULL,
  currency    TEXT NOT NULL,
  price_minor BIGINT NOT NULL CHECK (price_minor > 0), -- of one unit, in the currency's minor units
  create_time DOUBLE PRECISION NOT NULL,               -- seconds since the epoch, like every time here
  update_time DOUBLE PRECISION NOT NULL
);

-- How many units there are of each item, and where. Apart from the items, so that reserving
-- never waits for somebody who edits a price.
CREATE TABLE stock (
  sku      TEXT NOT NULL PRIMARY KEY REFERENCES items (sku),
  free     BIGINT NOT NULL CHECK (free >= 0),
  reserved BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  shipped  BIGINT NOT NULL DEFAULT 0 CHECK (shipped >= 0)
);

CREATE TABLE reservations (
  order_id       TEXT NOT NULL PRIMARY KEY,
  reservation_id TEXT NOT NULL UNIQUE,      -- a UUIDv7: in order of time
  state          BIGINT NOT NULL,           -- shop.inventory.v1.Reservation.State
  create_time    DOUBLE PRECISION NOT NULL,
  update_time    DOUBLE PRECISION NOT NULL
);

-- What a reservation moves: the order's lines, summed for each SKU.
CREATE TABLE reservation_lines (
  order_id TEXT NOT NULL REFERENCES reservations (order_id),
  sku      TEXT NOT NULL,
  quantity BIGINT NOT NULL CHECK (quantity > 0),
  PRIMARY KEY (order_id, sku)
);
