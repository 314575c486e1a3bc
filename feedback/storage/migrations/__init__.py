"""Migrations of the database, run at each start."""
