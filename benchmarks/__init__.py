"""The measured claims of docs/benchmarks.md, each from one command."""
