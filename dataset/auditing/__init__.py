"""Checking files: inspection, duplicates, and the journal from which a stopped audit continues."""
