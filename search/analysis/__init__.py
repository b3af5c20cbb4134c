"""Ties, fidelity and the agreement of rankings."""
