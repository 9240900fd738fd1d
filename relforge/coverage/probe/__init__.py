"""Which operators of a model FlagGems' Triton kernels took over, what they cost, how they err.

This package runs bare, with nothing of relforge installed: it needs Python 3.10, torch and, where
an accelerator is, flag_gems with sqlalchemy and PyYAML (unpacked on PYTHONPATH will do); for
``--model`` also transformers. With the folder that holds ``relforge`` on PYTHONPATH::

    python3 -m relforge.coverage.probe --dtype float16 --out fp16.json
    python3 -m relforge.coverage.probe --model FOLDER --dtype bfloat16 --out bf16.json

A small decoder of Qwen2's shape (or the model of a folder) reads a prompt and decodes, natively
and with FlagGems enabled. Counted is what torch's dispatcher hands to the device: operators in the
sense of ``TorchDispatchMode``, below autograd and after composite ones fell apart. Device time is
that of the kernels in the profiler's trace, given to the call within which each was launched. A
kernel is Triton's when Triton's cache has it by its name; an operator that FlagGems registered and
that ran no such kernel was not taken over.

``relforge coverage --evidence FILE`` reads what is written (relforge.coverage.evidence has its
fields). Progress goes to stderr. Exit status: 0 done, 1 the model or an operator failed, 2 the
arguments or the environment do not fit.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

FORMAT = "relforge.coverage/1"
LABEL = "relforge.call:"
_started = time.monotonic()


def lazy(name: str) -> Any:
    """A module that is imported when it is needed, so that the rest works without it."""
    return importlib.import_module(name)


def say(text: str) -> None:
    """A line of progress with the seconds since the start."""
    sys.stderr.write(f"[{time.monotonic() - _started:6.1f} s] {text}\n")
    sys.stderr.flush()
