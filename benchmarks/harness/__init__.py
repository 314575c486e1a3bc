"""Code that benchmarks share: a server to measure, loads, versions to swap between."""
