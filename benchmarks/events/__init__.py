"""Events from one service to another while their broker is killed."""
