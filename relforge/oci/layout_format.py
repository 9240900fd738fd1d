"""The files of an OCI layout beside its blobs, and the tar that Docker reads, too.

Formats: OCI image-layout 1.1; the ``manifest.json`` of ``docker save``; containerd's annotation of
an image's full name. The same content always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, cast

from relforge.attesting.attachments import ATTACHMENTS
from relforge.frozen import canonical_json
from relforge.oci.reference import has_host
from relforge.oci.refusals import altered
from relforge.oci.store import INDEXES, OCI_INDEX, Manifest

LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
REF_NAME = "org.opencontainers.image.ref.name"
FULL_NAME = "io.containerd.image.name"

Entry = dict[str, Any]
Open = Callable[[], "IO[bytes]"]


def names_of(name: str) -> dict[str, str]:
    """Annotations of an index entry: a tag for OCI tools, the full name for containerd's import.

    A ``name`` without a colon is a tag alone.
    """
    if ":" not in name:
        return {REF_NAME: name}
    full = name if "/" in name else f"docker.io/library/{name}"
    if "/" in name and not has_host(name):
        full = f"docker.io/{name}"
    return {FULL_NAME: full, REF_NAME: full.rpartition(":")[2]}


def tag_of(entry: Entry) -> str | None:
    """The tag that an index entry has; some programs write the full name in its place."""
    name = (entry.get("annotations") or {}).get(REF_NAME)
    return str(name).rpartition(":")[2] if name else None


def full_name(entry: Entry) -> str | None:
    """What Docker would call the image: ``name:tag`` as its user typed it, or None."""
    annotations = entry.get("annotations") or {}
    name = annotations.get(FULL_NAME) or annotations.get(REF_NAME) or ""
    for prefix in ("docker.io/library/", "docker.io/"):
        name = name.removeprefix(prefix)
    return name if ":" in name else None


def is_attachments(entry: Entry) -> bool:
    """Whether an index entry is the nameless index of what is attached."""
    return entry.get("artifactType") == ATTACHMENTS


def index_json(entries: Sequence[Entry]) -> bytes:
    """``index.json``: named entries by name, then nameless ones, attachments last."""
    rows = sorted(
        entries, key=lambda e: (is_attachments(e), tag_of(e) is None, tag_of(e) or "", e["digest"])
    )
    return canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": rows})


def docker_rows(
    entries: Sequence[Entry], manifest: Callable[[str], Manifest | None]
) -> list[dict[str, Any]]:
    """``manifest.json``: the images of one platform; Docker's classic store knows no other."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries:
        found = None
        if entry["mediaType"] not in INDEXES and not entry.get("artifactType"):
            found = manifest(entry["digest"])
        if found is None or found.subject is not None:
            continue
        name = full_name(entry)
        tags = rows[entry["digest"]]["RepoTags"] if entry["digest"] in rows else []
        rows[entry["digest"]] = {
            "Config": member_of(found.value["config"]["digest"]),
            "RepoTags": sorted({*tags, *([name] if name else [])}),
            "Layers": [member_of(layer["digest"]) for layer in found.value["layers"]],
        }
    return [rows[digest] for digest in sorted(rows)]


def member_of(digest: str) -> str:
    """A blob's path in a layout."""
    return f"blobs/{digest.replace(':', '/')}"


def write_archive(
    stream: IO[bytes],
    entries: Sequence[Entry],
    docker: list[dict[str, Any]],
    blobs: Mapping[str, tuple[int, Open]],
) -> None:
    """Writes a tar of the layout, blobs by digest, each checked on its way.

    ``blobs`` maps digests to size in bytes and what opens them. Raises RelforgeError (PUBLISH) for
    other content, OSError.
    """
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        texts = [("oci-layout", LAYOUT_FILE), ("index.json", index_json(entries))]
        if docker:
            texts.append(("manifest.json", canonical_json(docker)))
        for path, data in texts:
            tar.addfile(_member(path, len(data)), io.BytesIO(data))
        for digest, (size, open_) in sorted(blobs.items()):
            with open_() as inner:
                reader = _Summed(inner)
                try:
                    tar.addfile(_member(member_of(digest), size), cast("IO[bytes]", reader))
                except OSError as error:
                    if "unexpected end of data" not in str(error):
                        raise
                    raise altered(digest, f"it has less than {size} bytes") from error
                more = inner.read(1)
            if more or reader.digest != digest:
                raise altered(digest, f"it is longer, or hashes to {reader.digest}")


class _Summed(io.RawIOBase):
    def __init__(self, inner: IO[bytes]) -> None:
        super().__init__()
        self._inner, self._hash = inner, hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        """All that is asked for: tarfile takes less for the end, and a network gives less."""
        parts: list[bytes] = []
        left = size
        while left and (part := self._inner.read(left)):
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        self._hash.update(data)
        return data


def _member(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)  # time, user and group are 0
    entry.size = size
    entry.mode = 0o644
    return entry


def read_index(data: bytes) -> list[Entry]:
    """The entries of an ``index.json``. Raises ValueError, KeyError, TypeError."""
    value = json.loads(data)
    entries = value["manifests"] or []
    for entry in entries:
        entry["mediaType"], entry["digest"], entry["size"]
    return list(entries)
