"""Photos as batches: decoded once, augmented, loaded."""
