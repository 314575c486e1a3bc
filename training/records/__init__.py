"""Runs on disk: written, listed, compared, deleted."""
