"""Files on disk: archives, the manifest of versions that must be served, the journal, tuned profiles."""
