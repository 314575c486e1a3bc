"""Evaluation: predictions, metrics with intervals, corrupted photos, charts, the report."""
