"""Networks by name: built, loaded, reshaped after pruning."""
