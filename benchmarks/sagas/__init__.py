"""A durable saga of five calls: ours, its peers', and the same calls without any of it."""
