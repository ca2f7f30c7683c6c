"""The inventory service: items, the price list, stock and reservations."""
