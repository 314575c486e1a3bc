"""The content of a bundle: ONNX graph, labels, golden photos; and numbered versions of bundles."""
