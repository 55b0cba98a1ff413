"""From a name to an `nn.Module`: libraries, files, and the remedy where one does not run."""
