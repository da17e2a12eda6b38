"""An evaluation as a page for people. Needs jinja2 and matplotlib."""

from demur.report.page import write_report
from demur.report.sentences import summary

__all__ = ["summary", "write_report"]
