"""ONNX graphs: read as data, and run node by node on tensors without data."""
