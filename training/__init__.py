"""Labelled photos -> a candidate: train, prune, evaluate, export."""
