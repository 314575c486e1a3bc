"""Clients that send a load, and what they measure."""
