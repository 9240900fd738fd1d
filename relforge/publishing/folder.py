"""A release as a folder: the image as an OCI layout, its card, its evidence, its record.

::

    dist/<release>/
      image/         OCI image layout; the index names it by the release's tag, and what is
                     attached to it
      README.md      the card, with README_zh.md and .eval_results/ beside it
      cards/         the same card with the head that another hub reads (cards/modelscope/)
      weights/       of a model that lies in the project itself
      evidence/      the files that the card quotes
      contents.json  SHA-256 of every file above, but those of image/, which names its own
      release.json   the release record, which is written when all else is there
      release.dsse.json  of a signed release: the statement that covers record and contents
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from relforge.engine.attached import Attachment, read_attached, write_attached
from relforge.engine.blobs import link_or_copy
from relforge.engine.layout import ImageFacts, describe, fill, replace_folder, verify
from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, sha256_file, sync_folder
from relforge.frozen import Frozen, canonical_json
from relforge.leftovers import owned_folder

_CONTENTS = "contents.json"


class FolderResult(Frozen):
    """``written`` is False when the folder held this very release already."""

    path: Path
    image_digest: str
    files: dict[str, str]
    written: bool


def publish_folder(
    layout: Path,
    *,
    cards: Mapping[str, Path],
    evidence: Mapping[str, Path],
    weights: Mapping[str, Path],
    record: bytes | None,
    target: Path,
    tag: str,
    attachments: Sequence[Attachment] = (),
) -> FolderResult:
    """Writes the whole folder ``target`` or nothing; does nothing when it is there already.

    ``attachments`` may have become more since: whatever else is attached to the image stays.
    ``cards`` maps names below the folder to files, ``evidence`` and ``weights`` names below
    ``evidence/`` and ``weights/``. Every blob of the layout is hashed before it is published.
    Raises RelforgeError (PUBLISH) for an altered blob, a file that is missing or a target that is
    no folder of ours, (ENVIRONMENT) when it cannot be written.
    """
    facts = describe(layout, code=ExitCode.PUBLISH)
    # People edit cards where they lie: these are no links to files that others rely on.
    texts = {_inside(name): _read_given(path) for name, path in cards.items()}
    if record is not None:
        texts["release.json"] = record
    given = {f"evidence/{_inside(name)}": path for name, path in evidence.items()}
    given |= {f"weights/{_inside(name)}": path for name, path in weights.items()}
    files = {name: hashlib.sha256(data).hexdigest() for name, data in texts.items()}
    files |= {name: _hash_given(path) for name, path in given.items()}
    contents = canonical_json(
        {"image_digest": facts.digest, "tag": tag, "files": dict(sorted(files.items()))}
    )
    _require_ours(target)
    if _is_there(target, contents, facts, files, attachments):
        return FolderResult(path=target, image_digest=facts.digest, files=files, written=False)
    verify(layout, code=ExitCode.PUBLISH)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with owned_folder(target.parent, f".{target.name}") as work:
            work.chmod(0o755)
            (work / "image").mkdir()
            fill(layout, work / "image", facts, ref_name=tag)
            if attachments:
                write_attached(work / "image", attachments, keep=set(facts.blobs))
            for name, data in {**texts, _CONTENTS: contents}.items():
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                (work / name).write_bytes(data)
            for name, path in given.items():
                copy = work / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path, copy)
            sync_folder(work)
            replace_folder(work, target)
    except OSError as error:
        raise cannot_write(target, error) from error
    return FolderResult(path=target, image_digest=facts.digest, files=files, written=True)


def _is_there(
    target: Path,
    contents: bytes,
    facts: ImageFacts,
    files: dict[str, str],
    attachments: Sequence[Attachment],
) -> bool:
    # The small files are hashed; of the image, manifest and config are, the layers by size:
    # publishing again must not read gigabytes. `verify` reads all of it.
    try:
        if (target / _CONTENTS).read_bytes() != contents:
            return False
        if any(sha256_file(target / name) != digest for name, digest in files.items()):
            return False
        # Manifests change when the release is signed, what they list does not.
        attached = read_attached(target / "image")
        if any(blob not in attached.blobs for one in attachments for blob in one.blobs):
            return False
        return describe(target / "image", code=ExitCode.PUBLISH) == facts
    except (OSError, RelforgeError):
        return False


def _require_ours(target: Path) -> None:
    # A folder that somebody else filled is not replaced.
    if not target.exists() or (target / _CONTENTS).is_file():
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    raise RelforgeError(
        "the folder to publish to holds something else",
        code=ExitCode.PUBLISH,
        where=str(target),
        why=f"it has no {_CONTENTS}, so relforge did not write it",
        hint="move it away, or set another dist folder in the site configuration",
    )


def _hash_given(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_given(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> RelforgeError:
    return RelforgeError(
        "a file to be published cannot be read",
        code=ExitCode.PUBLISH,
        where=str(path),
        why=error.strerror or str(error),
        hint="run the release again: what is missing is made anew",
    )


def _inside(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/") or not name:
        raise RelforgeError(
            f"the name {json.dumps(name)} would leave its folder",
            code=ExitCode.PUBLISH,
            hint="use a relative name",
        )
    return name
