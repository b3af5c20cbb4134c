"""Where a study's jobs are done: in its own process, in several on this machine, or on many."""
