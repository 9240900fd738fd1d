"""Archives as files: every member is checked before a byte of it is kept."""

from __future__ import annotations

import calendar
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import FileMode, TreeFile

_ZIP_EPOCH = calendar.timegm((1980, 1, 1, 0, 0, 0))
_ENCRYPTED = 0x1
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,  # zipfile: a compression that this Python does not have
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to; a compressed bomb stops here."""

    files: int = 200_000
    file_bytes: int = 1 << 30
    total_bytes: int = 8 << 30


class ArchiveReader:
    """Iterates over an archive's files; ``newest_epoch`` is known after the last one.

    Refuses absolute and parent paths, ``.git``, links that leave the tree, devices, a path given
    twice or below a file, and anything above the limits. Raises RelforgeError with code SOURCE.
    ``strip`` takes away the one top folder that every member of an sdist lies in.
    """

    def __init__(self, path: Path, *, strip: bool, limits: Limits | None = None) -> None:
        self._path = path
        self._strip = strip
        self._limits = limits or Limits()
        self._top: str | None = None
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._total = 0
        self.newest_epoch: int | None = None

    def __iter__(self) -> Iterator[TreeFile]:
        members = self._zip() if self._path.suffix in {".zip", ".whl"} else self._tar()
        try:
            yield from members
        except _DAMAGE as error:
            raise self._refused("is damaged", str(error)) from error
        if not self._files:
            raise self._refused("has no files", None)

    def _tar(self) -> Iterator[TreeFile]:
        plain: dict[str, tarfile.TarInfo] = {}
        with tarfile.open(self._path, "r:*", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                name = self._name(member.name, folder=member.isdir())
                if name is None:
                    continue
                if member.issym():
                    yield self._link(name, member.linkname)
                    continue
                if not (member.isreg() or member.islnk()):
                    raise self._refused("has a member that is no file, folder or link", name)
                # A hard link stands for a file that came before it; its own size says nothing.
                file = plain.get(member.linkname) if member.islnk() else member
                if file is None:
                    raise self._refused("has a hard link to nothing", name)
                plain[member.name] = file
                self._count(name, file.size)
                self._seen_at(int(member.mtime))
                data = tar.extractfile(file)
                assert data is not None
                content = data.read()
                if len(content) != file.size:
                    raise self._refused("is damaged", name)
                yield TreeFile(name, _mode(member.mode), content)

    def _zip(self) -> Iterator[TreeFile]:
        with zipfile.ZipFile(self._path) as archive:
            for info in archive.infolist():
                name = self._name(info.filename, folder=info.is_dir())
                if name is None:
                    continue
                kind = stat.S_IFMT(info.external_attr >> 16)
                if info.flag_bits & _ENCRYPTED or kind not in {0, stat.S_IFREG, stat.S_IFLNK}:
                    raise self._refused("has a member that is no plain file or link", name)
                if kind == stat.S_IFLNK:
                    yield self._link(name, archive.read(info).decode("utf-8", "surrogateescape"))
                    continue
                self._count(name, info.file_size)
                self._seen_at(calendar.timegm(info.date_time))
                yield TreeFile(name, _mode(info.external_attr >> 16), archive.read(info))

    def _name(self, raw: str, *, folder: bool) -> str | None:
        """The path in the tree; None for a folder (a tree has none of its own)."""
        if raw.startswith("/") or "\\" in raw or "\0" in raw:
            raise self._refused("has a path that leaves its folder", raw)
        parts = [part for part in raw.split("/") if part not in {"", "."}]
        if ".." in parts:
            raise self._refused("has a path that leaves its folder", raw)
        if any(part.lower() == ".git" for part in parts):
            raise self._refused("has a member inside a .git folder", raw)
        if self._strip and parts:
            top, *parts = parts
            if self._top not in {None, top} or (not parts and not folder):
                raise self._refused("does not have one top folder that holds everything", raw)
            self._top = top
        if folder or not parts:
            return None
        name = "/".join(parts)
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        if name in self._files or name in self._folders or not above.isdisjoint(self._files):
            raise self._refused("has the same path twice", raw)
        self._files.add(name)
        self._folders |= above
        return name

    def _link(self, name: str, target: str) -> TreeFile:
        # `..` may only lead, so that a link cannot be left through another one on the way.
        parts = target.split("/")
        up = 0
        while up < len(parts) and parts[up] == "..":
            up += 1
        inside = not target.startswith("/") and ".." not in parts[up:] and "\0" not in target
        if not target or not inside or up > name.count("/"):
            raise self._refused("has a link that leaves its folder", f"{name} -> {target}")
        self._count(name, len(target))
        return TreeFile(name, "120000", target.encode("utf-8", "surrogateescape"))

    def _count(self, name: str, size: int) -> None:
        if len(self._files) > self._limits.files:
            raise self._refused(f"has more than {self._limits.files} files", name)
        self._add_size(name, size)

    def _add_size(self, name: str, size: int) -> None:
        self._total += size
        if size > self._limits.file_bytes or self._total > self._limits.total_bytes:
            raise self._refused("unpacks to more than the limit", name)

    def _seen_at(self, epoch: int) -> None:
        if epoch > _ZIP_EPOCH and epoch > (self.newest_epoch or 0):
            self.newest_epoch = epoch

    def _refused(self, why: str, member: str | None) -> RelforgeError:
        return RelforgeError(
            f"{self._path.name} {why}",
            code=ExitCode.SOURCE,
            where=str(self._path),
            why=repr(member) if member else None,
            hint="the pinned hash names this very file: pin another version of the source",
        )


def _mode(bits: int) -> FileMode:
    return "100755" if bits & stat.S_IXUSR else "100644"
