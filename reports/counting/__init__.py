"""Counting: score rows become counts by region, institution and week; near duplicates count once."""
