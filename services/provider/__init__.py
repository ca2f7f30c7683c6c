"""The outside payment company: not of our house, but played here."""
