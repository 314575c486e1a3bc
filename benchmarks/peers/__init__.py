"""What a user would pick instead, each as a small server that `python -m benchmarks.compare` starts and measures."""
