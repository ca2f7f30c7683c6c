"""`python -m services.payment.audit`: read the trail of an order, or hold all books against it."""
