"""Measure a teacher's units on data: activations, gradients, importance."""
