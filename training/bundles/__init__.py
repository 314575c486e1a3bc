"""What a run is exported as: ONNX graph, labels, golden photos, numbered versions."""
