"""The declared search space and its members."""
