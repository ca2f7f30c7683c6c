"""Mail to customers: one for each event that they want to hear of."""
