"""Photos as batches: selected, decoded, cached, augmented."""
