"""Putting an entry into a working tree: whole or not at all, plain text never on its way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.files import cannot_write, write_atomic
from relforge.patching.flagscale import sealed
from relforge.patching.flagscale.keypair import KeyPair
from relforge.patching.flagscale.names import SEALED
from relforge.patching.tree.place import put_in_place
from relforge.workarea import outer_area

_CHUNK = 1 << 18


@dataclass(frozen=True)
class NewFile:
    """A file of an entry; one whose name says so is written sealed."""

    name: str
    content: bytes


def put_folder(
    area: Path, folder: Path, files: Sequence[NewFile], *, keys: KeyPair | None, replace: bool
) -> None:
    """Writes a folder in one step. With ``replace`` one that is there goes away.

    Raises RelforgeError (ENVIRONMENT, SOURCE); then the folder is as it was.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with _empty_parents_removed(folder), outer_area(area, folder.parent) as outer:
        fresh = outer / "entry"
        try:
            fresh.mkdir(mode=0o755)
            for file in files:
                _write(fresh / file.name, file, keys)
        except OSError as error:
            raise cannot_write(folder, error) from error
        put_in_place(fresh, folder, replace=replace and folder.exists())


def put_line(path: Path, line: bytes, on_line: Callable[[str], None]) -> Path:
    """Adds a line to a file unless it has it already."""
    old = path.read_bytes() if path.is_file() else b""
    if line.strip() in (one.strip() for one in old.splitlines()):
        on_line(f"{path} has the line already")
        return path
    gap = b"" if not old or old.endswith(b"\n") else b"\n"
    write_atomic(path, old + gap + line)
    return path


def _write(path: Path, file: NewFile, keys: KeyPair | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    chunks: Iterator[bytes] = iter((file.content,))
    is_sealed = file.name.endswith(SEALED)
    if is_sealed:
        if keys is None:
            raise ValueError("a sealed file takes keys")
        chunks = sealed.seal(chunks, keys.public)
    with path.open("xb") as handle:
        for chunk in chunks:
            handle.write(chunk)
        handle.flush()
        os.fsync(handle.fileno())
    _check(path, file, keys if is_sealed else None)


def _check(path: Path, file: NewFile, keys: KeyPair | None) -> None:
    """What lies on the disk is read back, and opened where the private key is at hand."""
    content = path.read_bytes()
    if keys is not None:
        if not keys.opening:
            return
        where = str(path)
        head, body = sealed.split_head([content])
        secret = sealed.unwrap(head, keys.opening, where=where)
        content = b"".join(sealed.open_chunks(head, body, secret, where=where))
    if content != file.content:
        raise RelforgeError(
            "what was written cannot be read back",
            code=ExitCode.SOURCE,
            where=str(path),
            hint="check the disk, then run the same command again",
        )


@contextlib.contextmanager
def _empty_parents_removed(folder: Path) -> Iterator[None]:
    """On a failure, device folders that only this run has made go again."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
        raise
