"""The order service: orders as records, and what became of them."""
