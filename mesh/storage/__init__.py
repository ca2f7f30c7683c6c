"""Databases: the port, its adapters, and what the mesh keeps in them."""
