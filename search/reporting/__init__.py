"""The report: what is shown is decided first, then drawn, then put on one page."""

from protege.search.reporting.heads import least, write_heads
from protege.search.reporting.page import write_report

__all__ = ["least", "write_heads", "write_report"]
