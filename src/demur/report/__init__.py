"""An evaluation as a page for people. Needs jinja2 and matplotlib."""

from demur.evaluation.sentences import sentences as summary
from demur.report.page import write_report

__all__ = ["summary", "write_report"]
__dir__ = __all__.copy
