from .heads import least as least
from .heads import write_heads as write_heads
from .page import write_report as write_report

__all__ = [
    "least",
    "write_heads",
    "write_report",
]
