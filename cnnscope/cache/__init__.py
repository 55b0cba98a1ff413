"""Results of earlier requests, kept on disk."""
