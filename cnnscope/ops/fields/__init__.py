"""Receptive-field algebra: maps, layouts, and one rule for each kind of operation."""
