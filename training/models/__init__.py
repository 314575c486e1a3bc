"""Networks: the registry of backbones, the classifier around them, shapes after pruning."""
