"""A loaded model: where its layers, attention heads and norms are, and what runs through them."""
