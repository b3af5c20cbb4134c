"""The residual stream: its readers and writers, its states, and least-squares fits."""
