"""The labelling page: its server, the assignment of photos, the decisions, the model's suggestions."""
