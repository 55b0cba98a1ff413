"""Models that a file holds: Python source, exported programs, weights."""
