"""Sizes of a model, and policies that choose which of the teacher's units a student keeps."""
