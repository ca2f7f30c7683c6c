"""For tests: virtual time, and whole systems whose nodes die at numbered points."""
