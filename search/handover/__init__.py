"""From a student of the front to a trained and deployed one."""
