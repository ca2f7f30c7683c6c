"""One file for each concern of a call."""
