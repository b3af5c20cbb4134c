"""Quality of distilled students: the distillation of a candidate, and retention."""
