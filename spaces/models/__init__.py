"""The layout, attention and activations of a loaded model."""
