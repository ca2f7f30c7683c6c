"""The order system that runs on the mesh: one package for each service."""
