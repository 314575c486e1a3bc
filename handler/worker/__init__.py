"""The process of TorchServe that runs the handler."""
