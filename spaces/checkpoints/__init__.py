"""Read Hugging Face checkpoints: source, faults, task, processor, padding and pooling."""
