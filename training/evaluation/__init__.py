"""How good a model is: metrics, intervals, corruptions, the report."""
