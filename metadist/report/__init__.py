"""The report of a run, made from its run directory alone."""

from metadist.report.html import write_report

__all__ = ["write_report"]
