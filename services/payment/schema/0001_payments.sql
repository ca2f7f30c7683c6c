-- One payment an order.
CREATE TABLE payments (
  order_id           TEXT NOT NULL PRIMARY KEY,
  payment_id         TEXT NOT NULL UNIQUE,      -- a UUIDv7: in order of time
  user_id            TEXT NOT NULL,
  currency           TEXT NOT NULL,
  amount_minor       BIGINT NOT NULL CHECK (amount_minor > 0), -- in the currency's minor units
  state              BIGINT NOT NULL,           -- shop.payment.v1.Payment.State
  charge_key         TEXT NOT NULL,             -- what the provider knows the charge by
  provider_charge_id TEXT NOT NULL DEFAULT '',
  decline_reason     TEXT NOT NULL DEFAULT '',
  refund_reason      TEXT NOT NULL DEFAULT '',
  create_time        DOUBLE PRECISION NOT NULL, -- seconds since the epoch, like every time here
  update_time        DOUBLE PRECISION NOT NULL,
  charge_time        DOUBLE PRECISION,
  refund_time        DOUBLE PRECISION
);
CREATE INDEX payments_by_user ON payments (user_id, payment_id);

-- Every coin that moved: append only. An order is charged once and refunded once.
CREATE TABLE ledger_entries (
  entry_number   BIGINT NOT NULL PRIMARY KEY,
  order_id       TEXT NOT NULL REFERENCES payments (order_id),
  kind           BIGINT NOT NULL,               -- shop.payment.v1.LedgerEntry.Kind
  currency       TEXT NOT NULL,
  amount_minor   BIGINT NOT NULL CHECK (amount_minor > 0),
  debit_account  TEXT NOT NULL,                 -- receives the amount
  credit_account TEXT NOT NULL,                 -- gives it
  create_time    DOUBLE PRECISION NOT NULL,
  UNIQUE (order_id, kind)
);
CREATE INDEX ledger_sums ON ledger_entries (currency, kind, amount_minor);

-- The number of the last entry. A counter, since a sequence would leave gaps.
CREATE TABLE ledger_end (
  id          BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
  last_number BIGINT NOT NULL
);
INSERT INTO ledger_end (id, last_number) VALUES (1, 0);
