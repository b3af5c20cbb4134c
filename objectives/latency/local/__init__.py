"""Calls of a model in processes of this machine: fork server, workers, clocks, memory."""
