"""Writes the board as a folder, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from relforge.board.building import Board
from relforge.board.charts import Chart, can_draw
from relforge.board.page import INDEX, assets, details_script, html
from relforge.engine.layout import replace_folder
from relforge.errors import ExitCode, RelforgeError
from relforge.executor.forked import in_slices
from relforge.files import cannot_write, sync_folder
from relforge.frozen import sha256_hex
from relforge.leftovers import owned_folder

MANIFEST = "board.json"
"""Names every other file of the folder with its SHA-256, so that it is known for a board."""
_FORMAT = "relforge.board/1"


def write_board(
    board: Board, target: Path, *, line: Callable[[str], None] = lambda _line: None
) -> Mapping[str, int]:
    """Writes the folder *target*, in the place of an earlier board; returns each file's bytes.

    Charts that an earlier board has, unaltered, are not drawn again. ``line`` is told of charts
    that cannot be drawn. Raises RelforgeError (USAGE) for a folder that is no board,
    (ENVIRONMENT) when it cannot be written.
    """
    known = _known(target)
    files = {INDEX: html(board.index), **assets()}
    for made in board.made.values():
        files[made.entry.file] = details_script(made.details)
    charts = {chart.file: chart for made in board.made.values() for chart in made.charts}
    files |= _drawn(charts, target, known, line)
    sums = {name: sha256_hex(data) for name, data in sorted(files.items())}
    about = {"format": _FORMAT, "files": sums}
    files[MANIFEST] = json.dumps(about, indent=1).encode() + b"\n"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with owned_folder(target.parent, f".{target.name}") as work:
            work.chmod(0o755)
            for name, data in files.items():
                (work / name).parent.mkdir(exist_ok=True)
                (work / name).write_bytes(data)
            # Only now: the first one takes most of the others along.
            for name in files:
                _sync(work / name)
            for folder in {(work / name).parent for name in files}:
                sync_folder(folder)
            replace_folder(work, target)
    except OSError as error:
        raise cannot_write(target, error) from error
    return {name: len(files[name]) for name in sorted(files)}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _known(target: Path) -> Mapping[str, str]:
    """The files of the board that is there. Raises RelforgeError (USAGE) for anything else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return {}
    try:
        about = json.loads((target / MANIFEST).read_bytes())
        if about["format"] == _FORMAT:
            return dict(about["files"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise RelforgeError(
        "the folder for the board holds something else",
        code=ExitCode.USAGE,
        where=str(target),
        why=f"it has no {MANIFEST} of a board, so relforge did not write it",
        hint="name another folder with --out, or move this one away",
    )


def _drawn(
    charts: Mapping[str, Chart], target: Path, known: Mapping[str, str], line: Callable[[str], None]
) -> dict[str, bytes]:
    """The charts as files: those of the earlier board, and the others drawn."""
    found: dict[str, bytes] = {}
    for name in charts:
        try:
            data = (target / name).read_bytes()
        except OSError:
            continue
        if sha256_hex(data) == known.get(name):
            found[name] = data
    missing = sorted(set(charts) - set(found))
    if missing and not can_draw():
        line("charts are left out: pip install 'relforge[bench]' for Matplotlib, which draws them")
        return found

    def work(part: Sequence[str]) -> list[tuple[str, bytes | str]]:
        return [(name, drawn(charts[name])) for name in part]

    for part in in_slices(missing, work, processes=_processes(len(missing))) if missing else ():
        for name, made in part:
            if isinstance(made, str):
                line(f"{charts[name].title}: no {charts[name].kind} chart: {made}")
            else:
                found[name] = made
    return found


def drawn(chart: Chart) -> bytes | str:
    """The SVG, or why there is none: figures may be such that nothing can be drawn of them."""
    try:
        return chart.draw()
    except (RelforgeError, ValueError, ArithmeticError, LookupError) as error:
        return str(error) or type(error).__name__


def _processes(charts: int) -> int | None:
    """A chart takes long enough for a process of its own to pay off early."""
    return None if charts < 8 else len(os.sched_getaffinity(0))
