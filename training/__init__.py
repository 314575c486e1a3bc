"""From labelled photos to a bundle that can be served: train, prune, evaluate, export."""
