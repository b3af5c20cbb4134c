"""The report: what is shown is decided first, then drawn, then put on one page."""
