"""Write files atomically, cache results on disk, lock, and read this machine's memory."""
