"""What a pass over data tells of a teacher's units: activations, gradients, importance."""
