"""The next version of two services, for the tests of upgrades."""
