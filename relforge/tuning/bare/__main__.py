"""The command line: searches, and writes one evidence file."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from relforge.tuning.asking import Limits
from relforge.tuning.bare.process import Unfit, Worker
from relforge.tuning.bare.texts import LEVELS
from relforge.tuning.bare.worker import add_options
from relforge.tuning.journal import Journal, OtherJournal, telling
from relforge.tuning.record import record, text_of
from relforge.tuning.search import Tuning, tune


def main(argv: Sequence[str]) -> int:
    """Runs one tuning; returns the exit status."""
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:6.1f} s] {text}\n")
        sys.stderr.flush()

    parser = argparse.ArgumentParser(
        prog="tuning", description="Finds the operators of FlagGems that break a small decoder."
    )
    parser.add_argument("--out", type=Path, required=True, help="the evidence file")
    parser.add_argument("--date", help="goes into the evidence as it is")
    parser.add_argument("--max-evaluations", type=int)
    parser.add_argument("--max-seconds", type=float)
    parser.add_argument("--timeout-s", type=float, default=300.0, help="of one evaluation")
    parser.add_argument(
        "--used-first",
        action="store_true",
        help="try first whether it is enough to disable the operators that were seen at work",
    )
    for_worker = argparse.ArgumentParser(add_help=False)
    add_options(for_worker)
    add_options(parser)
    options = parser.parse_args(argv)
    decided = [
        f"--{name.replace('_', '-')}={getattr(options, name)}"
        for name in vars(for_worker.parse_args([]))
    ]
    limits = Limits(options.max_evaluations, options.max_seconds, LEVELS)
    try:
        with Worker(decided, timeout_s=options.timeout_s) as worker:
            hello = worker.hello()
            operators = hello["operators"]
            used, ended = worker.used() if options.used_first else ([], "")
            say(f"{len(operators)} operators of FlagGems, {len(used)} of them seen at work")
            if ended:
                say(f"with all of them enabled: {ended[:200]}")
            key = hashlib.sha256(json.dumps(hello["about"], sort_keys=True).encode()).hexdigest()
            journal = Journal(options.out.with_suffix(".jsonl"), key, operators)
            tuning = tune(
                operators,
                journal.answering(worker.evaluate),
                limits,
                suspects=used,
                told=telling(say, operators),
            )
    except (Unfit, OtherJournal) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    subject = {**hello["about"], "date": options.date}
    evidence = record(tuning, subject=subject, limits=limits, suspects=used)
    # A kill in between leaves no half evidence.
    partial = options.out.with_name(f".{options.out.name}.{os.getpid()}")
    partial.write_text(text_of(evidence), "utf-8")
    partial.replace(options.out)
    say(_said(tuning))
    return 0 if tuning.state == "done" else 6


def _said(tuning: Tuning) -> str:
    found = ", ".join(tuning.culprits) or "none"
    return f"{tuning.state}: {tuning.reason}; to disable: {found}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
