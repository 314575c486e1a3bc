"""What several packages need: errors, files, the console, the command line. Imports nothing of the project."""
