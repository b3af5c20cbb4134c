"""Which students to try next, and what comes of the ones tried."""
