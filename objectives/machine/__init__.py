"""This machine: its lock, time by phase, number formats, files between processes."""
