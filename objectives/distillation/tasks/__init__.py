"""One distillation task per kind of model."""
