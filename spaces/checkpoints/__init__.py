"""Read a Hugging Face checkpoint: source, faults, task, processor, padding and pooling."""
