"""Which photos go to which part of a split."""
