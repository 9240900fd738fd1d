"""The statement about the whole release: which files are covered, how new it is, and whether the
release was taken back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relforge.attesting.statements import Statement
from relforge.errors import RelforgeError
from relforge.evidence import dsse
from relforge.publishing.published import RECORD, SEAL
from relforge.verifying.files import Files
from relforge.verifying.report import Outcome, failed, judged, not_run, passed
from relforge.verifying.signed import StatementsSeen


@dataclass(frozen=True)
class Newest:
    """The release statement that counts: of those that are good the one with the highest serial."""

    predicate: Mapping[str, Any]
    serial: int | None
    older: tuple[Mapping[str, Any], ...] = ()

    @property
    def covered(self) -> dict[str, str]:
        """SHA-256 by path."""
        predicate = self.predicate
        listed = [predicate.get("record"), predicate.get("contents"), *predicate.get("files", ())]
        return dict(_hashes(listed))


def newest(seen: StatementsSeen, *, keys: bool) -> Newest | None:
    """None where there is none."""
    said = sorted(
        (one.predicate for one in seen.best("release", keys=keys)),
        key=lambda predicate: _serial(predicate) or 0,
        reverse=True,
    )
    return Newest(said[0], _serial(said[0]), tuple(said[1:])) if said else None


def release(
    files: Files, record: Mapping[str, Any], statement: Newest | None, *, demanded: bool
) -> Outcome:
    """Record, cards and evidence are those that the newest statement covers."""
    if statement is None:
        why = "no statement covers record, cards and evidence"
        return failed([why]) if demanded else not_run(why)
    problems = list(_covered(files, statement))
    problems += _record(record, statement)
    if problems and (replayed := _replayed(files, statement)):
        problems.insert(0, replayed)
    count = len(statement.covered)
    return judged(
        problems, f"{count} files are covered; serial {statement.serial}, {_made(statement)}"
    )


def replay(files: Files, record: Mapping[str, Any], statement: Newest | None) -> Outcome:
    """Nothing here is of an older release than the newest statement.

    A place that has nothing but an older release, whole and signed, looks like this, too: only who
    knows of a newer one can tell (``minimum_serial`` and ``not_before`` of a policy).
    """
    if statement is None:
        return not_run("without a release statement nothing tells older from newer")
    problems = []
    if (why := _replayed(files, statement)) is not None:
        problems.append(why)
    if SEAL in files.names:
        problems += _seal(files, statement)
    created = record.get("created")
    made = statement.predicate.get("created")
    if isinstance(created, str) and isinstance(made, str) and created > made:
        problems.append(f"the record is of {created}, after the statement about it, {made}")
    return judged(
        problems, f"the newest statement here (serial {statement.serial}) is about this record"
    )


def withdrawal(seen: StatementsSeen, *, keys: bool) -> Outcome:
    """Nobody who may say so took the release back."""
    said = seen.best("withdrawal", keys=keys)
    if said:
        return failed(
            f"the release was withdrawn{_when(one)}: {one.predicate.get('reason') or 'no reason'}"
            for one in said
        )
    strangers = len(seen.claimed.get("withdrawal", ()))
    more = f"; {strangers} statements by strangers say so" if strangers else ""
    return passed(f"no trusted statement takes it back{more}")


def _covered(files: Files, statement: Newest) -> Iterator[str]:
    covered = statement.covered
    # The record first: it is what all else hangs on.
    for name, digest in sorted(covered.items(), key=lambda row: (row[0] != RECORD, row[0])):
        if name not in files.names:
            # Weights are no part of what is attached to an image.
            if not name.startswith("weights/"):
                yield f"{name} is covered by the signature and is not there"
            continue
        try:
            found = files.sha256(name)
        except (OSError, ValueError) as error:
            yield str(error)
            continue
        if found != digest:
            yield f"{name} is not the one that was signed"
    for name in files.names:
        if name not in covered and name != SEAL:
            yield f"{name} is covered by no signature"


def _record(record: Mapping[str, Any], statement: Newest) -> Iterator[str]:
    for name in ("release", "lock_sha256", "verdicts"):
        said, recorded = statement.predicate.get(name), record.get(name)
        if said is not None and said != recorded:
            yield f"{name} is {said} in the statement, {recorded} in the record"


def _replayed(files: Files, statement: Newest) -> str | None:
    """Whether the record that is here is one that an older statement covers."""
    try:
        found = files.sha256(RECORD)
    except (OSError, ValueError):
        return None
    if found == statement.covered.get(RECORD):
        return None
    for older in statement.older:
        if dict(_hashes([older.get("record")])).get(RECORD) == found:
            return (
                f"{RECORD} is an older one, played back: it is that of serial {_serial(older)}, "
                f"and the newest statement has {statement.serial}"
            )
    return None


def _seal(files: Files, statement: Newest) -> Iterator[str]:
    """The statement that lies in the folder is the one that is attached."""
    try:
        envelope = dsse.parse(files.read(SEAL), where=SEAL)
        found = Statement.parse(envelope.payload).predicate
    except (OSError, ValueError, RelforgeError) as error:
        yield f"{SEAL} cannot be read: {getattr(error, 'why', None) or error}"
        return
    if found != statement.predicate:
        serial = _serial(found)
        yield (
            f"{SEAL} is another statement (serial {serial}) than the newest that is attached "
            f"(serial {statement.serial})"
        )


def _hashes(listed: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for one in listed:
        if isinstance(one, Mapping) and isinstance(one.get("digest"), Mapping):
            yield str(one.get("name")), str(one["digest"].get("sha256"))


def _serial(predicate: Mapping[str, Any]) -> int | None:
    found = predicate.get("serial")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _made(statement: Newest) -> str:
    return f"made {statement.predicate.get('created', 'at no known time')}"


def _when(one: Statement) -> str:
    created = one.predicate.get("created")
    return f" on {created}" if created else ""
