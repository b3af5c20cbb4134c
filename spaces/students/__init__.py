"""Select units, cut tensors, build, heal, rotate and save a student."""
