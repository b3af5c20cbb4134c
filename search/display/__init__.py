"""What a terminal, a log or a notebook shows of a run while it works."""
