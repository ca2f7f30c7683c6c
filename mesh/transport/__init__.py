"""How calls travel: gRPC, or memory."""
