"""Measure models in processes of this machine: fork server, workers, clocks, memory."""
