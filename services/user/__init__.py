"""The user service: customer accounts and their addresses."""
