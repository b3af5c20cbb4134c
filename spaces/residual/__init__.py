"""The residual stream: which modules read and write it, its states, and least squares on them."""
