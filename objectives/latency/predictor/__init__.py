"""Predict latency from the work that an architecture does."""
