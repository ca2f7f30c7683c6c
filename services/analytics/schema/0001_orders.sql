-- One set of rows for each read model: while one serves, another may be built beside it.
CREATE TABLE customers (
  model   TEXT NOT NULL,             -- the subscription that feeds it
  user_id TEXT NOT NULL,
  state   BIGINT NOT NULL,           -- shop.user.v1.User.State
  PRIMARY KEY (model, user_id)
);

-- Each service's events come in order; those of different services in any.
CREATE TABLE orders (
  model          TEXT NOT NULL,
  order_id       TEXT NOT NULL,
  user_id        TEXT NOT NULL,
  position       TEXT NOT NULL,                 -- create_time and order_id, to sort by
  state          BIGINT NOT NULL DEFAULT 0,     -- shop.order.v1.Order.State
  currency       TEXT NOT NULL DEFAULT '',
  total_minor    BIGINT NOT NULL DEFAULT 0,
  payment_state  BIGINT NOT NULL DEFAULT 0,     -- shop.payment.v1.Payment.State
  shipment_state BIGINT NOT NULL DEFAULT 0,     -- shop.shipping.v1.Shipment.State
  version        BIGINT NOT NULL DEFAULT 0,     -- events of the order service applied
  sold_on        TEXT NOT NULL DEFAULT '',      -- the day of its confirmation
  create_time    DOUBLE PRECISION NOT NULL,     -- seconds since the epoch, like every time here
  update_time    DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (model, order_id)
);
CREATE INDEX orders_by_user ON orders (model, user_id, position);

CREATE TABLE order_lines (
  model        TEXT NOT NULL,
  order_id     TEXT NOT NULL,
  number       BIGINT NOT NULL,
  sku          TEXT NOT NULL,
  quantity     BIGINT NOT NULL,
  amount_minor BIGINT NOT NULL,
  PRIMARY KEY (model, order_id, number)
);

-- Of confirmed orders.
CREATE TABLE daily_sales (
  model         TEXT NOT NULL,
  date          TEXT NOT NULL,
  currency      TEXT NOT NULL,
  order_count   BIGINT NOT NULL,
  revenue_minor BIGINT NOT NULL,
  PRIMARY KEY (model, date, currency)
);
CREATE TABLE item_sales (
  model         TEXT NOT NULL,
  currency      TEXT NOT NULL,
  sku           TEXT NOT NULL,
  quantity      BIGINT NOT NULL,
  revenue_minor BIGINT NOT NULL,
  PRIMARY KEY (model, currency, sku)
);
CREATE INDEX item_sales_by_revenue ON item_sales (model, currency, revenue_minor);
