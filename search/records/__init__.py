"""Records of trials, objectives and failures, and what a run folder holds of them: plain values."""
