"""One walk: its steps, its record on disk, and how it runs and resumes."""
