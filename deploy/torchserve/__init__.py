"""One TorchServe: its process, its HTTP and gRPC APIs, and the questions a version must answer."""
