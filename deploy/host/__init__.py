"""What a node gives: the var folder, locks, processes, logs. Knows nothing of TorchServe."""
