"""Tests of the project as a whole: its layers, conventions, documentation and packaging."""

PACKAGES = (
    "common",
    "config",
    "handler",
    "dataset",
    "training",
    "deploy",
    "feedback",
    "retrain",
    "reports",
    "traffic",
    "benchmarks",
)
