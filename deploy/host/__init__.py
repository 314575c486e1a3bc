"""The node: its var folder, locks, processes and logs. Knows nothing of TorchServe."""
