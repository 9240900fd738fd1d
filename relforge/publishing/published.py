"""A published folder as publishing reads it: the one source of everything that is sent anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from relforge.errors import ExitCode, RelforgeError

CONTENTS = "contents.json"
RECORD = "release.json"
SEAL = "release.dsse.json"
"""Of a signed release: the statement that covers record and contents."""
IMAGE = "image"
HUB_CARDS = "cards/"
"""Cards with the heads of other hubs than Hugging Face, in a folder for each hub."""


@dataclass(frozen=True)
class Published:
    """``folder`` is ``dist/<release>``. ``files`` maps each file's path below it to its SHA-256."""

    folder: Path
    release: str
    image_digest: str
    files: Mapping[str, str]
    names: Mapping[str, str]
    """Values of the placeholders in target patterns: release, model, device, vendor, variant."""

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

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """The release record, parsed."""
        found: dict[str, Any] = json.loads((self.folder / RECORD).read_bytes())
        return found

    @property
    def verdicts(self) -> Mapping[str, str]:
        """Of each stage that has one; what is missing is ``not-run``."""
        return dict(self.record["verdicts"])

    def fill(self, pattern: str, *, lower: bool = False) -> str:
        """A target's pattern with its placeholders filled in."""
        names = {name: value.lower() if lower else value for name, value in self.names.items()}
        return pattern.format_map(names)


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
        contents = json.loads((folder / CONTENTS).read_bytes())
        record = json.loads((folder / RECORD).read_bytes())
        found = Published(
            folder=folder,
            release=record["release"],
            image_digest=contents["image_digest"],
            files=dict(contents["files"]),
            names={name: str(value) for name, value in record["names"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RelforgeError(
            "this is no published release",
            code=ExitCode.PUBLISH,
            where=str(folder),
            why=f"{type(error).__name__}: {error}",
            hint="relforge publish --release NAME writes one",
        ) from error
    if record["image_digest"] != found.image_digest:
        raise RelforgeError(
            "the record of this release is about another image",
            code=ExitCode.PUBLISH,
            where=str(folder),
            why=f"record: {record['image_digest']}, folder: {found.image_digest}",
            hint=f"relforge release --release {found.release}",
        )
    return found
