-- Customer accounts.
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

CREATE TABLE user_addresses (
  user_id        TEXT NOT NULL REFERENCES users (user_id),
  address_id     TEXT NOT NULL,
  number         BIGINT NOT NULL, -- in the order they were added
  label          TEXT NOT NULL,
  postal_address BYTEA NOT NULL,  -- google.type.PostalAddress
  PRIMARY KEY (user_id, address_id)
);

-- Why accounts were suspended, and when reactivated: append only.
CREATE TABLE user_state_changes (
  change_id TEXT NOT NULL PRIMARY KEY, -- a UUIDv7: in order of time
  user_id   TEXT NOT NULL REFERENCES users (user_id),
  state     BIGINT NOT NULL,           -- the state entered
  time      DOUBLE PRECISION NOT NULL,
  reason    TEXT NOT NULL
);
