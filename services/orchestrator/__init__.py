"""The orchestrator: runs the sagas that span services."""
