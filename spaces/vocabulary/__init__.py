"""Fewer tokens: which a student keeps, and the tokenizer that knows only those."""
