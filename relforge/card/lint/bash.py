"""Asks bash itself whether scripts can be read; nothing of them is run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from relforge import proc
from relforge.card.lint.shell import parses
from relforge.errors import ExitCode

_TOGETHER = 32
_TIMEOUT_S = 300.0
# A process for each of thousands of blocks would take most of the time. Each text is therefore
# read by a fork of one bash; its first line, `set -n`, forbids that anything after it is run.
_READ_ALL = """\
mapfile -d '' -t texts
for number in "${!texts[@]}"; do
  ( eval "set -n
${texts[number]}" ) 2>/dev/null 1>&2 </dev/null || printf '%d\\n' "$number"
done
"""
_PLACE = re.compile(r"^\S+: (?:-c: )?line (\d+): (.*)$")


@dataclass(frozen=True)
class Unreadable:
    """Where bash stops, counted from 1 in the script, and what it says."""

    line: int
    message: str


_known: dict[str, Unreadable | None] = {}


def unreadable(scripts: Iterable[str]) -> dict[str, Unreadable]:
    """Those of the scripts that ``bash -n`` refuses, and why.

    A heredoc that never ends counts as well; bash only warns of it. Answers are kept, so that the
    same script is asked for once. Raises RelforgeError (ENVIRONMENT) when there is no bash.
    """
    scripts = set(scripts)
    new = sorted(scripts - _known.keys())
    for script in new:
        _known[script] = None
    for script in _refused(new):
        _known[script] = _why(script)
    return {script: found for script in scripts if (found := _known[script]) is not None}


def _refused(scripts: list[str]) -> list[str]:
    """Those that may be unreadable: bash refuses them, or they have a heredoc.

    An unended heredoc is no failure to bash, so those are looked at one by one.
    """
    alone: list[str] = []
    closed: list[str] = []
    for script in scripts:
        if "<<" not in script:
            (closed if parses(script) else alone).append(script)
    # What the grammar can read ends no quote of its neighbour, so that several are read at once,
    # each as the body of a function. Where bash refuses one of these, each is asked for.
    groups = [closed[at : at + _TOGETHER] for at in range(0, len(closed), _TOGETHER)]
    texts = ["".join(f"f() {{\n:\n{script}\n}}\n" for script in group) for group in groups]
    for number in _refuse(texts):
        alone += groups[number]
    heredocs = [script for script in scripts if "<<" in script]
    return [*(alone[number] for number in _refuse(alone)), *heredocs]


def _refuse(texts: list[str]) -> list[int]:
    if not texts:
        return []
    # A NUL cannot be in a script of bash; it ends one here.
    data = "".join(text.replace("\0", "") + "\0" for text in texts)
    done = proc.run(
        ["bash", "--norc", "--noprofile", "-c", _READ_ALL],
        code=ExitCode.ENVIRONMENT,
        what="bash cannot read the shell blocks",
        hint="install bash 4.4 or newer",
        env={"LC_ALL": "C", "BASH_ENV": ""},
        stdin=data.encode(errors="replace"),
        timeout_s=_TIMEOUT_S,
    )
    return [int(number) for number in done.text.split()]


def _why(script: str) -> Unreadable | None:
    done = proc.run(
        ["bash", "--norc", "--noprofile", "-n"],
        code=ExitCode.ENVIRONMENT,
        env={"LC_ALL": "C", "BASH_ENV": ""},
        stdin=script.replace("\0", "").encode(errors="replace"),
        check=False,
        timeout_s=_TIMEOUT_S,
    )
    for line in done.stderr.decode("utf-8", "replace").splitlines():
        match = _PLACE.match(line)
        if match is not None:
            last = script.rstrip("\n").count("\n") + 1
            return Unreadable(min(int(match[1]), last), match[2].removeprefix("warning: "))
    return None
