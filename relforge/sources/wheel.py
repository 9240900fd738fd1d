"""Wheels: a tree made a valid wheel again, and what a tree says that it needs.

Formats: the "Binary distribution format" and "Core metadata" pages of packaging.python.org.
"""

from __future__ import annotations

import base64
import csv
import email.parser
import email.policy
import hashlib
import io
import itertools
import os
import re
import time
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git

_ZIP_START = 315_532_800  # 1980-01-01: the zip format knows no earlier time
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Requires:
    """What a package's metadata asks for. ``dynamic``: its build may ask for something else."""

    name: str
    version: str
    requirements: tuple[str, ...]
    dynamic: bool


def repack(tree_folder: Path, out_dir: Path, epoch: int) -> Path:
    """Makes a wheel of an unpacked wheel: RECORD is computed anew, the order and times are fixed.

    ``epoch`` is in seconds since 1970. The file's name follows from the metadata in it. The same
    folder gives the same bytes. Raises RelforgeError with code SOURCE for what is no wheel.
    """
    info = _dist_info(tree_folder)
    path = out_dir / _file_name(info)
    date = time.gmtime(max(epoch, _ZIP_START))[:6]
    members = sorted(_members(tree_folder), key=lambda m: (m[0].startswith(f"{info.name}/"), m[0]))
    record_name = f"{info.name}/RECORD"
    dropped = {record_name, *(f"{info.name}/{name}" for name in _SIGNATURES)}
    rows: list[tuple[str, str, int | str]] = []
    out_dir.mkdir(parents=True, exist_ok=True)
    temporary = out_dir / f".{path.name}.{os.getpid()}"
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as wheel:
            for name, file in members:
                if name not in dropped:
                    rows.append(_add(wheel, name, file, date))
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerows([*rows, (record_name, "", "")])
            wheel.writestr(_zip_info(record_name, date, 0o644), text.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _add(
    wheel: zipfile.ZipFile, name: str, file: Path, date: tuple[int, ...]
) -> tuple[str, str, int]:
    executable = bool(file.stat().st_mode & 0o100)
    digest = hashlib.sha256()
    size = 0
    entry = _zip_info(name, date, 0o755 if executable else 0o644)
    with (
        file.open("rb") as source,
        wheel.open(entry, "w", force_zip64=file.stat().st_size >= 1 << 31) as target,
    ):
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            target.write(chunk)
    value = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
    return name, f"sha256={value}", size


def _zip_info(name: str, date: tuple[int, ...], mode: int) -> zipfile.ZipInfo:
    year, month, day, hour, minute, second = date
    entry = zipfile.ZipInfo(name, (year, month, day, hour, minute, second))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, so that the mode bits count
    entry.external_attr = (0o100000 | mode) << 16
    return entry


def _members(root: Path) -> list[tuple[str, Path]]:
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink():
                raise RelforgeError(
                    f"a wheel cannot hold the link {path.relative_to(root)}",
                    code=ExitCode.SOURCE,
                    hint="replace it in the patch set by the file that it points to",
                )
            found.append((path.relative_to(root).as_posix(), path))
    return found


def _dist_info(root: Path) -> Path:
    found = sorted(p for p in root.glob("*.dist-info") if p.is_dir())
    if len(found) != 1:
        raise RelforgeError(
            f"a wheel's tree has one .dist-info folder; here are {len(found)}",
            code=ExitCode.SOURCE,
            where=str(root),
            hint="only a source of kind `wheel` can be repacked",
        )
    return found[0]


def _file_name(info: Path) -> str:
    wheel = _headers(_read(info / "WHEEL"))
    metadata = _headers(_read(info / "METADATA"))
    stem = "-".join(
        re.sub(r"[^\w.+!]+", "_", str(metadata.get(field, ""))) for field in ("Name", "Version")
    )
    if build := wheel.get("Build"):
        stem += f"-{build}"
    tags = [str(tag).split("-") for tag in wheel.get_all("Tag", [])]
    parts: list[list[str]] = [[], [], []]
    for tag in tags:
        for values, value in zip(parts, tag, strict=False):
            if value not in values:
                values.append(value)
    name = f"{stem}-{'-'.join('.'.join(values) for values in parts)}.whl"
    try:
        expanded = parse_wheel_filename(name)[3]
    except InvalidWheelFilename as error:
        raise RelforgeError(
            "the metadata of the wheel's tree makes no file name",
            code=ExitCode.SOURCE,
            where=str(info),
            why=str(error),
            hint="look at Name and Version in METADATA and Tag in WHEEL",
        ) from error
    every = {"-".join(tag) for tag in itertools.product(*parts)}
    if {str(tag) for tag in expanded} != {t.lower() for t in every} or len(every) != len(tags):
        raise RelforgeError(
            "the wheel's tags cannot be written as one file name",
            code=ExitCode.SOURCE,
            where=str(info / "WHEEL"),
            why=", ".join("-".join(tag) for tag in tags),
        )
    return name


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RelforgeError(
            f"the wheel's tree lacks {path.parent.name}/{path.name}",
            code=ExitCode.SOURCE,
            where=str(path),
            hint="only a source of kind `wheel` can be repacked",
        ) from error


def _headers(data: bytes) -> Message:
    text = data.decode("utf-8", "replace")
    return email.parser.Parser(policy=email.policy.compat32).parsestr(text, headersonly=True)


def requires_of(
    git: Git,
    tree: str,
    *,
    extras: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> Requires:
    """Name, version and Requires-Dist of an imported sdist's or wheel's tree.

    ``environment`` is the marker environment of the target, this Python's when absent. What only
    an extra asks for is left out unless that extra is named.
    """
    path = _metadata_path(git, tree)
    headers = _headers(git.read_file(tree, path))
    known = {k: str(v) for k, v in default_environment().items()} | (environment or {})
    kept = []
    for text in headers.get_all("Requires-Dist", []):
        try:
            requirement = Requirement(str(text))
        except InvalidRequirement as error:
            raise RelforgeError(
                f"{path} has a requirement that cannot be read: {text}",
                code=ExitCode.SOURCE,
                why=str(error),
            ) from error
        if wanted(requirement.marker, extras, known):
            requirement.marker = None
            kept.append(str(requirement))
    dynamic = {str(v).lower() for v in headers.get_all("Dynamic", [])}
    return Requires(
        name=str(headers.get("Name", "")),
        version=str(headers.get("Version", "")),
        requirements=tuple(kept),
        dynamic="requires-dist" in dynamic,
    )


def wanted(
    marker: Marker | None, extras: tuple[str, ...] | frozenset[str], environment: dict[str, str]
) -> bool:
    """Whether a requirement with this marker counts, for a package asked for with *extras*."""
    if marker is None:
        return True
    return any(marker.evaluate({**environment, "extra": extra}) for extra in (*extras, ""))


def _metadata_path(git: Git, tree: str) -> str:
    rows = git.run("ls-tree", "--name-only", "-z", "--full-tree", tree).stdout.split(b"\0")
    names = [row.decode("utf-8", "replace") for row in rows]
    if "PKG-INFO" in names:
        return "PKG-INFO"
    for name in names:
        if name.endswith(".dist-info"):
            return f"{name}/METADATA"
    raise RelforgeError(
        "the tree has neither PKG-INFO nor a .dist-info folder",
        code=ExitCode.SOURCE,
        where=tree,
        hint="name its requirements in the manifest (build.python.requirements)",
    )
