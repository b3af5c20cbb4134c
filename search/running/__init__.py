"""The coordinator of a study: racing, screening and stopping."""
