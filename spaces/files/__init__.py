"""Atomic writes, the cache, block files, locks, private folders, and free memory."""
