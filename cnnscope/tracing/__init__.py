"""An `nn.Module` and its inputs to a Trace: here PyTorch lives."""
