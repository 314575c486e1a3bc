"""The manifest: reading tables and folders, regions, dates, and what is wrong, row by row."""
