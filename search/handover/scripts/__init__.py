"""Training scripts for other trainers, with the data that they read."""
