"""What a student is worth: size, latency, memory, quality after a short distillation."""
