"""Administration of one process: what its policies do, on the wire and on the command line."""
