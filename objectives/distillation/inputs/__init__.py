"""Inputs of a distillation: sequences of tokens, batches, cut vocabularies."""
