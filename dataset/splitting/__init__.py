"""Dividing photos by source: the parts of a split, folds, a held-out part."""
