"""Whether a published folder is still what was released, found out from the folder alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from relforge.engine.attached import read_attached
from relforge.engine.blobs import blob_path
from relforge.engine.layout import verify as verify_layout
from relforge.errors import RelforgeError
from relforge.files import sha256_file
from relforge.frozen import Frozen
from relforge.publishing.published import CONTENTS, RECORD, SEAL

_HASH_LINE = re.compile(r"[0-9a-f]{64}")


class Finding(Frozen):
    """One check with what it found."""

    check: str
    verdict: Literal["pass", "fail"]
    reason: str


class VerifyReport(Frozen):
    """What ``relforge verify --json`` prints; stable. It passes when every check does."""

    folder: str
    verdict: Literal["pass", "fail"]
    checks: tuple[Finding, ...]


def verify_folder(folder: Path) -> VerifyReport:
    """Reads everything and asks nobody; never raises for what is wrong with the folder."""
    checks = tuple(_run(name, check, folder) for name, check in _CHECKS)
    good = all(check.verdict == "pass" for check in checks)
    return VerifyReport(folder=str(folder), verdict="pass" if good else "fail", checks=checks)


def _run(name: str, check: Callable[[Path], Iterator[str]], folder: Path) -> Finding:
    try:
        said = list(check(folder))
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else "a file"
        return Finding(check=name, verdict="fail", reason=f"{missing} is not there")
    except KeyError as error:
        return Finding(check=name, verdict="fail", reason=f"cannot be read: {error} is missing")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return Finding(check=name, verdict="fail", reason=f"cannot be read: {error}")
    except RelforgeError as error:
        what = ": ".join(part for part in (error.what, error.why) if part)
        return Finding(check=name, verdict="fail", reason=what)
    if len(said) == 1 and said[0].startswith(_GOOD):
        return Finding(check=name, verdict="pass", reason=said[0].removeprefix(_GOOD))
    return Finding(check=name, verdict="fail", reason="; ".join(said[:8]))


_GOOD = "+"


def _contents(folder: Path) -> Iterator[str]:
    """Every file is the one that was published, and none came beside them."""
    listed: dict[str, str] = _json(folder / "contents.json")["files"]
    bad = [name for name, digest in listed.items() if not _is(folder / name, digest)]
    for name in bad:
        yield f"{name} is not the file that was published"
    known = {*listed, CONTENTS, RECORD, SEAL}
    for name in _names(folder):
        if name not in known and not name.startswith("image/"):
            bad.append(name)
            yield f"{name} was not published"
    if not bad:
        yield f"{_GOOD}{len(listed)} files have the hashes that contents.json lists"


def _image(folder: Path) -> Iterator[str]:
    """Every blob of the layout has its digest, the whole is the image of the contents with what is
    attached to it, and nothing else is there."""
    layout = folder / "image"
    facts = verify_layout(layout)
    wanted = _json(folder / "contents.json")["image_digest"]
    blobs = {**facts.blobs, **read_attached(layout).blobs}
    known = {blob_path(layout, digest).relative_to(layout).as_posix() for digest in blobs}
    strays = [name for name in _names(layout) if name not in {*known, "oci-layout", "index.json"}]
    for name in strays:
        yield f"image/{name} is no part of the image"
    if facts.digest != wanted:
        yield f"the layout holds {facts.digest}, contents.json names {wanted}"
    elif not strays:
        yield f"{_GOOD}{facts.digest}, {len(facts.blobs)} blobs"


def _record(folder: Path) -> Iterator[str]:
    """The record is about this very image and these evidence files."""
    record = _json(folder / "release.json")
    wanted = _json(folder / "contents.json")["image_digest"]
    labels = verify_labels(folder)
    if record["image_digest"] != wanted:
        yield f"the record is about {record['image_digest']}, the folder holds {wanted}"
        return
    recorded: dict[str, str] = record["results"]["build"]["labels"]
    different = sorted(
        name for name in {*recorded, *labels} if recorded.get(name) != labels.get(name)
    )
    for name in different:
        yield f"label {name}: the record has {recorded.get(name)}, the image {labels.get(name)}"
    published = {sha256_file(p) for p in (folder / "evidence").rglob("*") if p.is_file()}
    missing = [
        f"{stage}: {entry['file']}"
        for stage, entries in record["evidence"].items()
        for entry in entries
        if entry["sha256"] not in published
    ]
    for name in missing:
        yield f"the record names evidence that is not there: {name}"
    if not different and not missing:
        count = sum(len(entries) for entries in record["evidence"].values())
        yield f"{_GOOD}image, {len(recorded)} labels and {count} evidence files are the record's"


def verify_labels(folder: Path) -> dict[str, str]:
    """The labels of the image in a published folder."""
    from relforge.engine.layout import describe

    return dict(describe(folder / "image").labels)


def _card(folder: Path) -> Iterator[str]:
    """The card's digest, lock and scores are those of record and evidence."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    record = _json(folder / "release.json")
    wrong = False
    for name, value in (("image", record["image_digest"]), ("lock", record["lock_sha256"])):
        if value not in card:
            wrong = True
            yield f"the card does not have the {name} of the record, {value}"
    tasks = (record["results"].get("evaluate") or {}).get("tasks") or []
    for task in tasks:
        cell = f"{task['result_percent']:.2f} % ({task['result_correct']})"
        if cell not in card:
            wrong = True
            yield f"the card does not have the result of {task['task']}, {cell}"
        right = _counted(folder, task["task"])
        if right is not None and right != (task["result_correct"], task["n"]):
            wrong = True
            yield (
                f"the evidence of {task['task']} has {right[0]} of {right[1]} right, the record "
                f"{task['result_correct']} of {task['n']}"
            )
    known = {record["image_digest"].removeprefix("sha256:"), record["lock_sha256"]}
    known |= set(_HASH_LINE.findall(json.dumps(record)))
    for digest in sorted(set(_HASH_LINE.findall(card)) - known):
        wrong = True
        yield f"the card has a hash that the record does not know: {digest}"
    if not wrong:
        scores = "1 score" if len(tasks) == 1 else f"{len(tasks)} scores"
        yield f"{_GOOD}digest, lock and {scores} are those of record and evidence"


def _counted(folder: Path, task: str) -> tuple[int, int] | None:
    """Right answers and questions in the evidence of a task; None where it does not say."""
    names = ("evaluation.json", f"evaluation-{task.replace('/', '-')}.json")
    for name in names:
        path = folder / "evidence" / name
        if path.is_file():
            questions = _json(path).get("questions")
            if isinstance(questions, list):
                return sum(bool(q.get("correct")) for q in questions), len(questions)
    return None


_CHECKS = (
    ("contents", _contents),
    ("image", _image),
    ("record", _record),
    ("card", _card),
)


def _names(folder: Path) -> Iterator[str]:
    """Everything below it that is no folder: links, pipes and devices, too."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


def _is(path: Path, digest: str) -> bool:
    try:
        return sha256_file(path) == digest
    except OSError:
        return False


def _json(path: Path) -> dict[str, Any]:
    data = json.loads(path.read_bytes())
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return data
