"""Why a server did not start or died: known causes, matched on its log and container state.

Every cause names its evidence (the line that gave it away) and the manifest field that mends it.
The table is split by theme (``host``, ``libraries``, ``device``, ``memory``, ``network``,
``weights``); docs/diagnosis.md lists it.
"""

from __future__ import annotations

from relforge.serving.diagnosis.matching import Reading, diagnose, diagnose_all
from relforge.serving.diagnosis.model import KnownCause
from relforge.serving.diagnosis.table import CAUSES
from relforge.serving.diagnosis.words import last_error_line, last_words

__all__ = [
    "CAUSES",
    "KnownCause",
    "Reading",
    "diagnose",
    "diagnose_all",
    "last_error_line",
    "last_words",
]
