-- Nothing that was recorded is ever changed or removed.
CREATE TRIGGER payment_events_are_not_changed BEFORE UPDATE ON payment_events
BEGIN SELECT RAISE(ABORT, 'payment_events is append only'); END;
CREATE TRIGGER payment_events_are_not_removed BEFORE DELETE ON payment_events
BEGIN SELECT RAISE(ABORT, 'payment_events is append only'); END;
CREATE TRIGGER ledger_entries_are_not_changed BEFORE UPDATE ON ledger_entries
BEGIN SELECT RAISE(ABORT, 'ledger_entries is append only'); END;
CREATE TRIGGER ledger_entries_are_not_removed BEFORE DELETE ON ledger_entries
BEGIN SELECT RAISE(ABORT, 'ledger_entries is append only'); END;
