-- What was charged for one order, however many charges there are.
CREATE INDEX charges_by_reference ON charges (reference, charge_id);
