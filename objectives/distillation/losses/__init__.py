"""Losses on outputs, hidden states and attention."""
