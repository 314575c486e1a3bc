"""Photos before any model sees them: read, grouped by source, drawn."""
