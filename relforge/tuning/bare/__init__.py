"""Which of FlagGems' operators break a small decoder on this machine's GPU; needs no container.

It runs with nothing of relforge installed: Python 3.10, torch, and flag_gems with SQLAlchemy and
PyYAML (unpacked on PYTHONPATH will do). With the folder that holds ``relforge`` on PYTHONPATH::

    python3 -m relforge.tuning.bare --dtype float16 --out float16.json

The decoder is that of the operator coverage, of Qwen2's shape, with weights made from a seed. A
question is a position of a text of random tokens: right is the best next token of native torch in
float32 with the same weights. The verdict compares FlagGems with native torch in the same type, in
pairs, against a margin, as the consistency verdict of a release does; ``fail`` is also what raises
an exception, kills the process or hangs. The questions of search and confirmation are other texts.

Every verdict is written to ``OUT.jsonl`` before the next set of operators is tried; the same
command goes on from there. ``relforge tune --evidence OUT`` reads what is written. Exit status: 0 a
set was found and confirmed, 1 a bug, 2 the arguments or the environment do not fit, 6 nothing was
found.
"""

from __future__ import annotations

import importlib
from typing import Any


def lazy(name: str) -> Any:
    """A module that is imported when it is needed, so that the rest works without it."""
    return importlib.import_module(name)
