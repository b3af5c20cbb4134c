"""The Pareto front: pick, confirm and export students."""
