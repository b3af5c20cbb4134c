"""The Optuna study; Optuna is used nowhere else."""
