"""The labelling page: server, assignments, decisions, suggestions."""
