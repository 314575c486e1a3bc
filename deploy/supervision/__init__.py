"""What keeps the served versions up: supervisord, the keeper and its repairs, readiness, metrics."""
