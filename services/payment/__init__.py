"""The payment service: one payment an order, and the ledger."""
