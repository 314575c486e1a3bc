"""Runs that consist of several trainings: sweeps over backbones, cross-validation."""
