"""Clients' traffic: nginx in front of the nodes, and a new version that gets a growing share of it."""
