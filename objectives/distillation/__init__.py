"""Short distillation: tasks, losses, teacher outputs and the training loop."""
