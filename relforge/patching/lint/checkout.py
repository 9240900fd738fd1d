"""Checks a FlagScale checkout as one of its commits has it; the working tree is not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import TreeEntry
from relforge.gitio.entries import GITLINK
from relforge.patching.flagscale.names import SEALED
from relforge.patching.flagscale.repository import Repository, submodule_at
from relforge.patching.lint.applying import Trials
from relforge.patching.lint.content import (
    Place,
    check_file,
    check_keys,
    check_patch,
    check_sealed,
    is_hostfile,
    superseded,
)
from relforge.patching.lint.entries import check_entries
from relforge.patching.lint.history import Answer, answers, check_hetero, check_history, requests
from relforge.patching.lint.model import Finding, LintReport, finding, report
from relforge.patching.lint.objects import Look, Unit
from relforge.workarea import work_area

_KEY_MARKS = ("PRIVATE KEY-----", "AGE-SECRET-KEY-1")


def lint_checkout(
    repository: Repository,
    commit: str | None = None,
    *,
    home: Path,
    cancel: CancelToken | None = None,
) -> LintReport:
    """Every finding of a commit (None: what the checkout stands on) and of what it leads to.

    Reads git's objects only. Raises RelforgeError (SOURCE) when the commit is not there.
    """
    look = Look(repository, _commit(repository, commit or repository.head))
    asked, wrong = requests(look)
    found, missing = answers(look, asked)
    units = look.hardware(look.commit).units
    referred = _referred(units, found)
    findings = [*wrong, *missing]
    findings += check_entries(look)
    findings += check_history(look, asked, found)
    findings += check_hetero(look)
    findings += _loose_files(look)
    look.objects.kinds(row.oid for unit in (*units, *referred) for row in unit.rows)
    current = {answer.commit for answer in found if answer.request.last}
    for unit in (*units, *referred):
        if cancel is not None:
            cancel.check()
        seen = _contents(look, unit)
        findings += seen if unit.now or unit.commit in current else superseded(seen)
    findings += _whole_tree(look)
    with work_area(home, "lint") as area:
        findings += Trials(look, area, cancel).check((*units, *referred), found)
    return report("checkout", repository.shown, look.commit, len(units) + len(referred), findings)


def _commit(repository: Repository, name: str) -> str:
    done = repository.git.run(
        "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False
    )
    if done.returncode == 0:
        return done.text
    if name == repository.head:
        raise RelforgeError(
            "the repository has no commit to look at",
            code=ExitCode.SOURCE,
            where=repository.shown,
            why=f"{name} means none",
            hint="name one: --commit COMMIT",
        )
    return repository.resolve(name)


def _referred(units: tuple[Unit, ...], found: list[Answer]) -> list[Unit]:
    """Entries that the history file leads to and that are not in the commit itself."""
    seen = {(unit.folder, unit.tree) for unit in units}
    # The newest commits first: theirs is the name under which an entry is reported.
    result = []
    for answer in sorted(found, key=lambda one: not one.request.last):
        for unit in answer.units:
            if (unit.folder, unit.tree) not in seen:
                seen.add((unit.folder, unit.tree))
                result.append(unit)
    return result


def _contents(look: Look, unit: Unit) -> Iterator[Finding]:
    rows = {row.path: row for row in unit.rows if row.mode != GITLINK}
    # Old sealed files are not read: nobody can look into them, and they are large.
    unread = {path for path in rows if path.endswith(SEALED) and not unit.now}
    kinds = look.objects.kinds(row.oid for row in rows.values())
    read = [path for path in rows if path not in unread]
    contents = dict(look.objects.blobs([rows[path].oid for path in read]))
    for path, row in sorted(rows.items()):
        place = Place(partial(unit.where, path))
        data = contents.get(row.oid)
        if row.oid not in kinds or (path not in unread and data is None):
            yield _absent(look, unit, row, damaged=row.oid in kinds)
        elif path.endswith(SEALED):
            start = data[:100] if data is not None else None
            yield from check_sealed(path, kinds[row.oid][2], start, place)
        elif data is not None and path.endswith(".patch"):
            yield from check_patch(data, place, unit.folder)
        elif data is not None:
            yield from check_file(path, data, place)


def _absent(look: Look, unit: Unit, row: TreeEntry, *, damaged: bool) -> Finding:
    return finding(
        "object-missing",
        "error",
        unit.where(row.path),
        "the file could not be looked at: "
        + (
            f"the object {row.oid} has another content than its name says"
            if damaged
            else f"the object {row.oid} is missing in this clone"
        ),
        f"git -C {look.repository.shown} fetch --refetch origin; when no server has it, "
        "the entry is lost",
    )


def _loose_files(look: Look) -> Iterator[Finding]:
    """Files between the entries: below a device, but in no entry."""
    for row in look.hardware(look.commit).others:
        if row.path.count("/") == 2:
            message = "the file lies beside the device's entries and belongs to none"
            yield finding("stray-file", "warning", row.path, message, "remove it")


def _whole_tree(look: Look) -> Iterator[Finding]:
    """What may stand anywhere: private keys, hostfiles with addresses, submodules without URL."""
    rows = {row.path: row for row in look.git.list_tree(look.commit, sizes=False)}
    for path, row in rows.items():
        if row.mode == GITLINK and submodule_at(look.repository, look.commit, path) is None:
            yield finding(
                "submodule-undeclared",
                "warning",
                path,
                "it is a submodule that .gitmodules does not name: `git submodule status` fails",
                "declare it in .gitmodules, or remove it",
            )
    marks = (word for mark in _KEY_MARKS for word in ("-e", mark))
    listed = look.git.run(
        *("grep", "-z", "-l", "-F", "--threads", "1", "--full-name", *marks, look.commit),
        *("--", ":(top)", ":(top,exclude)hardware"),
        check=False,
    )
    for raw in listed.stdout.split(b"\0")[:-1]:
        path = raw.partition(b":")[2].decode("utf-8", "surrogateescape")
        data = look.objects.blob(rows[path].oid) if path in rows else None
        yield from check_keys(data or b"", _place(path))
    hostfiles = [p for p, r in rows.items() if is_hostfile(p) and r.mode.startswith("100")]
    for path in hostfiles:
        if not path.startswith("hardware/"):
            data = look.objects.blob(rows[path].oid)
            found = check_file(path, data or b"", _place(path))
            # An example with placeholders is what a hostfile in the tree should be.
            yield from (one for one in found if one.id == "address-in-hostfile")


def _place(path: str) -> Place:
    return Place(lambda line: path if line is None else f"{path}:{line}")
