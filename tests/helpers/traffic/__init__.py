"""Fronts and nodes for tests of `traffic`."""
