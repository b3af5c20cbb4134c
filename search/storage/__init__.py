"""Where a study is stored: URLs, files, locks, and the run folder that belongs to it."""
