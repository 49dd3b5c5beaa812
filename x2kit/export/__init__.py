"""Export a model to torch.export and ONNX programs. Imports no torch."""
