"""Findings: what a reviewer would say of a network, computed from its trace alone."""
