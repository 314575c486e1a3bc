"""The systems that are compared, each a small server."""
