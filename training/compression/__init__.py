"""Smaller models: pruning, int8, their cost, and the gate that bounds their loss."""
