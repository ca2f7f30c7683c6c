-- What was charged or declined, by the caller's key. Tokens are not kept, only a digest of the
-- request, which tells whether a key comes back with other contents.
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

-- Which keys refunds were asked for under.
CREATE TABLE refunds (
  key          TEXT NOT NULL PRIMARY KEY,
  charge_key   TEXT NOT NULL REFERENCES charges (key),
  request_hash BYTEA NOT NULL,
  create_time  DOUBLE PRECISION NOT NULL
);

-- When each slow charge was first asked for: it takes its time however often it is asked again.
CREATE TABLE slow_charges (
  key         TEXT NOT NULL PRIMARY KEY,
  create_time DOUBLE PRECISION NOT NULL
);
