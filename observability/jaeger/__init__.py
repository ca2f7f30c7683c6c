"""The real Jaeger, built from source and run with our configuration."""
