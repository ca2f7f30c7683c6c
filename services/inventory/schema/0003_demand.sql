-- How many units of each SKU orders asked for, as the order service tells: those that were confirmed,
-- and those that never were, for want of stock or money. Of SKUs that nobody sells, too.
CREATE TABLE demand (
  sku       TEXT NOT NULL PRIMARY KEY,
  asked     BIGINT NOT NULL CHECK (asked >= confirmed),
  confirmed BIGINT NOT NULL CHECK (confirmed >= 0)
);

-- What orders that are still being placed ask for.
CREATE TABLE demand_open (
  order_id TEXT NOT NULL,
  sku      TEXT NOT NULL,
  quantity BIGINT NOT NULL CHECK (quantity > 0),
  PRIMARY KEY (order_id, sku)
);
