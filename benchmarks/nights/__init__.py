"""How much a model learns in simulated nights."""
