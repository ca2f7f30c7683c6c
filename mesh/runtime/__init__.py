"""What the process gets from its machine: time, chance, configuration, telemetry, a life."""
