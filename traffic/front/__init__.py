"""nginx in front of the nodes: its configuration, its clients' tokens, the nodes' keys, and its process."""
