"""The alternatives to this project, as small servers that `python -m benchmarks.compare` starts and measures."""
