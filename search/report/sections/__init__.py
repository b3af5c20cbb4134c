"""The sections of the report below its first screen: one subject a file."""
