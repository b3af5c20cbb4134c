"""The runtimes that a student is timed in, and its exports for them."""
