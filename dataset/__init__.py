"""Photos before training: fetch, draw, convert, audit, label and split them."""
