"""The report as a folder: one page that needs no other file, and CSV files beside it."""
