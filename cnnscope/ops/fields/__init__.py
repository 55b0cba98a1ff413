"""How receptive fields pass through operations: maps, layouts, and one rule for each kind."""
