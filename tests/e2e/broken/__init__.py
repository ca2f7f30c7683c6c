"""Services with something broken in them, for the tests of what operators do then."""
