"""Holds what the services say of each order against one another, on live data."""
