-- Every unit that was ever put on the shelf: free, reserved and shipped ones together, for ever.
ALTER TABLE stock ADD COLUMN received BIGINT NOT NULL DEFAULT 0 CHECK (received >= 0);
UPDATE stock SET received = free + reserved + shipped;
