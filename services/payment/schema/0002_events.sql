-- Everything that ever happened to payments: append only. A payment is the sum of its events.
CREATE TABLE payment_events (
  order_id           TEXT NOT NULL,
  version            BIGINT NOT NULL CHECK (version > 0), -- 1, 2, 3 and so on within an order
  what               TEXT NOT NULL,             -- a field of shop.payment.v1.PaymentEvent.event
  user_id            TEXT NOT NULL,
  currency           TEXT NOT NULL,
  amount_minor       BIGINT NOT NULL CHECK (amount_minor > 0), -- in the currency's minor units
  provider_key       TEXT NOT NULL,             -- what the provider is to know a request by
  provider_charge_id TEXT NOT NULL,
  reason             TEXT NOT NULL,
  principal          TEXT NOT NULL,             -- who called
  correlation_id     TEXT NOT NULL,
  time               DOUBLE PRECISION NOT NULL, -- seconds since the epoch, like every time here
  PRIMARY KEY (order_id, version),
  CHECK ((version = 1) = (what = 'charge_requested'))
);

ALTER TABLE ledger_entries RENAME TO ledger_entries_0001;
ALTER TABLE payments RENAME TO payments_0001;

-- What the payments of before tell of their history. Who called was not recorded. Of a refund that
-- was made, the time when it was asked for is lost; of one that was denied, why.
INSERT INTO payment_events
  SELECT order_id, 1, 'charge_requested', user_id, currency, amount_minor,
         charge_key, '', '', '', '', create_time
    FROM payments_0001;
INSERT INTO payment_events
  SELECT order_id, 2, 'charged', user_id, currency, amount_minor,
         '', provider_charge_id, '', '', '', charge_time
    FROM payments_0001 WHERE state IN (2, 4, 5); -- CHARGED, REFUNDING, REFUNDED
INSERT INTO payment_events
  SELECT order_id, 2, 'declined', user_id, currency, amount_minor,
         '', provider_charge_id, decline_reason, '', '', update_time
    FROM payments_0001 WHERE state = 3; -- DECLINED
INSERT INTO payment_events
  SELECT order_id, 3, 'refund_requested', user_id, currency, amount_minor,
         'refund/' || order_id, '', refund_reason, '', '', update_time
    FROM payments_0001
   WHERE state IN (4, 5) OR (state = 2 AND update_time <> charge_time); -- denied: CHARGED again
INSERT INTO payment_events
  SELECT order_id, 4, 'refund_denied', user_id, currency, amount_minor,
         '', '', '', '', '', update_time
    FROM payments_0001 WHERE state = 2 AND update_time <> charge_time;
INSERT INTO payment_events
  SELECT order_id, 4, 'refunded', user_id, currency, amount_minor,
         '', '', '', '', '', refund_time
    FROM payments_0001 WHERE state = 5;

-- Every coin that moved: append only. An entry is one amount, from one account to another: its
-- debits cannot but equal its credits. Who, when and in which request: its event says.
CREATE TABLE ledger_entries (
  entry_number   BIGINT NOT NULL PRIMARY KEY,
  order_id       TEXT NOT NULL,
  version        BIGINT NOT NULL,
  kind           BIGINT NOT NULL,               -- shop.payment.v1.LedgerEntry.Kind
  currency       TEXT NOT NULL,
  amount_minor   BIGINT NOT NULL CHECK (amount_minor > 0),
  debit_account  TEXT NOT NULL,                 -- receives the amount
  credit_account TEXT NOT NULL,                 -- gives it
  UNIQUE (order_id, kind),                      -- charged once, refunded once
  FOREIGN KEY (order_id, version) REFERENCES payment_events (order_id, version),
  CHECK (debit_account <> credit_account)
);
INSERT INTO ledger_entries
  SELECT entry_number, order_id, CASE kind WHEN 1 THEN 2 ELSE 4 END, kind, currency, amount_minor,
         debit_account, credit_account
    FROM ledger_entries_0001;

-- The same entries, account by account.
CREATE VIEW ledger_postings AS
  SELECT entry_number, debit_account AS account, currency,
         amount_minor AS debit_minor, 0 AS credit_minor
    FROM ledger_entries
  UNION ALL
  SELECT entry_number, credit_account, currency, 0, amount_minor
    FROM ledger_entries;

-- The sums of the events, one row a payment: for lists only. It can be made anew at any time.
CREATE TABLE payments (
  order_id           TEXT NOT NULL PRIMARY KEY,
  version            BIGINT NOT NULL,           -- of the last event in it
  user_id            TEXT NOT NULL,
  currency           TEXT NOT NULL,
  amount_minor       BIGINT NOT NULL,
  state              BIGINT NOT NULL,           -- shop.payment.v1.Payment.State
  charge_key         TEXT NOT NULL,
  refund_key         TEXT NOT NULL,
  provider_charge_id TEXT NOT NULL,
  decline_reason     TEXT NOT NULL,
  create_time        DOUBLE PRECISION NOT NULL,
  update_time        DOUBLE PRECISION NOT NULL,
  charge_time        DOUBLE PRECISION,
  refund_time        DOUBLE PRECISION
);
INSERT INTO payments
  SELECT order_id, (SELECT MAX(version) FROM payment_events AS e WHERE e.order_id = p.order_id),
         user_id, currency, amount_minor, state, charge_key,
         CASE WHEN state IN (4, 5) OR (state = 2 AND update_time <> charge_time)
              THEN 'refund/' || order_id ELSE '' END,
         provider_charge_id, decline_reason, create_time, update_time, charge_time, refund_time
    FROM payments_0001 AS p;

DROP TABLE ledger_entries_0001;
DROP TABLE payments_0001;
CREATE INDEX payments_by_time ON payments (create_time, order_id);
CREATE INDEX payments_by_user ON payments (user_id, create_time, order_id);
CREATE INDEX ledger_sums ON ledger_entries (currency, kind, amount_minor);
