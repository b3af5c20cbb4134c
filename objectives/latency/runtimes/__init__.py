"""The runtimes that models are timed in, and the export of models for them."""
