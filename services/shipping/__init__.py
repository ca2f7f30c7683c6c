"""The shipping service: goods on their way to the customer."""
