"""The time that a model takes on this machine, with its uncertainty."""
