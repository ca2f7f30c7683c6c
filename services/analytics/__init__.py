"""The read model: what the services publish, joined for reading."""
