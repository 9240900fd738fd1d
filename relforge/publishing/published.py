"""A published folder as publishing reads it: the one source of everything that is sent anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.common import Digest, Line, Name, RelativePath, Sha256

CONTENTS = "contents.json"
RECORD = "release.json"
SEAL = "release.dsse.json"
"""Of a signed release: the statement that covers record and contents."""
IMAGE = "image"
HUB_CARDS = "cards/"
"""Cards with the heads of other hubs than Hugging Face, in a folder for each hub."""


def _no_path(text: str) -> str:
    if "/" in text or text in (".", ".."):
        raise ValueError("must be one name, and no path")
    return text


class _Contents(BaseModel):
    """contents.json. Its names become paths: none may lead out of the folder."""

    image_digest: Digest
    files: dict[RelativePath, Sha256]


class _Names(BaseModel):
    release: Name
    model: Name
    device: Name
    vendor: Annotated[Line, AfterValidator(_no_path)]
    variant: Name


class _Record(BaseModel):
    """What publishing itself reads of a record; all else is for ``relforge verify``."""

    release: Name
    image_digest: Digest
    created: str
    names: _Names
    verdicts: dict[str, str]
    results: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Published:
    """``folder`` is ``dist/<release>``. ``files`` maps each file's path below it to its SHA-256."""

    folder: Path
    release: str
    image_digest: str
    files: Mapping[str, str]
    names: Mapping[str, str]
    """Values of the placeholders in target patterns: release, model, device, vendor, variant."""
    record: Mapping[str, Any]
    """The release record, parsed when the folder was read."""

    @property
    def layout(self) -> Path:
        """The OCI layout with the image and what is attached to it."""
        return self.folder / IMAGE

    @property
    def seal(self) -> Path | None:
        """The signed statement about record and contents; None of a release without one."""
        path = self.folder / SEAL
        return path if path.is_file() else None

    @property
    def unlisted(self) -> tuple[str, ...]:
        """What contents.json cannot list: itself, the record that is written after it, and the
        statement about both."""
        return (CONTENTS, RECORD) if self.seal is None else (CONTENTS, RECORD, SEAL)

    @property
    def verdicts(self) -> Mapping[str, str]:
        """Of each stage that has one; what is missing is ``not-run``."""
        return dict(self.record["verdicts"])

    @cached_property
    def serial(self) -> int | None:
        """Of the signed statement: a later one about the same release has a larger one."""
        from relforge.attesting.statements import Statement
        from relforge.evidence.dsse import parse

        if self.seal is None:
            return None
        try:
            found = Statement.parse(parse(self.seal.read_bytes()).payload).predicate["serial"]
            return int(found)
        except (OSError, ValueError, KeyError, TypeError, RelforgeError):
            return None

    def fill(self, pattern: str, *, lower: bool = False) -> str:
        """A target's pattern with its placeholders filled in."""
        names = {name: value.lower() if lower else value for name, value in self.names.items()}
        return pattern.format_map(names)


def _no_release(folder: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "this is no published release",
        code=ExitCode.PUBLISH,
        where=str(folder),
        why=why,
        hint="relforge publish --release NAME writes one",
    )


def read_published(folder: Path) -> Published:
    """Reads contents and record; hashes nothing. Raises RelforgeError (PUBLISH)."""
    if not folder.is_dir():
        raise RelforgeError(
            "there is no such published release",
            code=ExitCode.USAGE,
            where=str(folder),
            hint="name a folder that relforge publish wrote, such as dist/RELEASE",
        )
    try:
        contents = _Contents.model_validate_json((folder / CONTENTS).read_bytes())
        record = json.loads((folder / RECORD).read_bytes())
        head = _Record.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise _no_release(folder, f"{at}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _no_release(folder, getattr(error, "strerror", None) or str(error)) from error
    found = Published(
        folder=folder,
        release=head.release,
        image_digest=contents.image_digest,
        files=contents.files,
        names=head.names.model_dump(),
        record=record,
    )
    if head.image_digest != found.image_digest:
        raise RelforgeError(
            "the record of this release is about another image",
            code=ExitCode.PUBLISH,
            where=str(folder),
            why=f"record: {head.image_digest}, folder: {found.image_digest}",
            hint=f"relforge release --release {found.release}",
        )
    return found
