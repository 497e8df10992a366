"""Documents made from records, for people and for regulators."""

from cloister.reports.page import report, write_report

__all__ = ["report", "write_report"]
