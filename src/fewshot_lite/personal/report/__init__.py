"""Reports to look at: one HTML page each, with everything in it; nothing is loaded or run.

    from fewshot_lite.personal.report import write_adapt_report, write_classify_report

    personal = fewshot_lite.load().adapt("my_objects")
    write_adapt_report(personal, "report.html")
    write_classify_report(personal, personal.classify_stream(paths), "answers.html")

Importing this does not import torch: names are looked up when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot_lite.personal.report.adapt_report import adapt_page, write_adapt_report
    from fewshot_lite.personal.report.classify_report import ClassifyReport, write_classify_report
    from fewshot_lite.personal.report.writing import check_report

_HOMES = {
    "ClassifyReport": "classify_report",
    "adapt_page": "adapt_report",
    "check_report": "writing",
    "write_adapt_report": "adapt_report",
    "write_classify_report": "classify_report",
}

__all__ = [
    "ClassifyReport",
    "adapt_page",
    "check_report",
    "write_adapt_report",
    "write_classify_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fewshot_lite.personal.report' has no attribute {name!r}")
    return getattr(import_module(f"fewshot_lite.personal.report.{_HOMES[name]}"), name)
