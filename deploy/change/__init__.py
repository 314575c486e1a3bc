"""One change of what is served: its lock, its journal, and the checks before it."""
