"""Code that several packages share: errors, files, consoles, the command line. Imports nothing of the project."""
