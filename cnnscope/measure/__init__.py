"""The numbers of an analysis taken from real runs, sharing no code with it."""
