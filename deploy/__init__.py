"""Pack a bundle as an archive, and serve it as a version that was proven first. Imports no torch."""
