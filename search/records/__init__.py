"""Records of trials, goals and failures, and what a run folder holds of them: plain values."""
