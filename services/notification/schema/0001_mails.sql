-- What became of each mail. Its address is not kept.
CREATE TABLE mails (
  message_id  TEXT NOT NULL PRIMARY KEY,
  position    TEXT NOT NULL UNIQUE,      -- a UUIDv7: in order of time
  order_id    TEXT NOT NULL,
  user_id     TEXT NOT NULL,
  template    TEXT NOT NULL,
  state       BIGINT NOT NULL,           -- shop.notification.v1.Mail.State
  answer      TEXT NOT NULL,             -- the mail server's
  create_time DOUBLE PRECISION NOT NULL  -- seconds since the epoch
);
CREATE INDEX mails_by_order ON mails (order_id, position);
