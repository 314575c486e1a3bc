"""Requests of benchmarks.fuzz: good ones, and ones that are wrong in a seeded way."""
