"""What the figures in README and docs were measured by: each module prints a table."""
