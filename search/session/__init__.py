"""One run of a study: its identity, its record, and what happens between start and end."""
