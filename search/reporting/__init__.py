"""The report: what is shown is decided first, then drawn, then put on one page."""

from protege.search.reporting.page import write_report

__all__ = ["write_report"]
