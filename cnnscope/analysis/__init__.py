"""Pure functions of a trace: none of them needs torch."""
