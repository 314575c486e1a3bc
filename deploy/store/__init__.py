"""What lies on disk: archives, the manifest of versions that must be served, journal, tuned profiles."""
