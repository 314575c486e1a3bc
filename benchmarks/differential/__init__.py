"""Image files of every kind that is taken, and what independent decoders make of them."""
