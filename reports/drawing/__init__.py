"""Example data: drawn photos with a known truth."""
