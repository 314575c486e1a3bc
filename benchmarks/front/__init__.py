"""What the front costs, and the walk of a canary (python -m benchmarks.front)."""
