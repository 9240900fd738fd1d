"""Images made by hand: layers from lists of files, as OCI layouts; no engine is needed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

EPOCH_S = 315_532_800


@dataclass(frozen=True)
class Member:
    """One entry of a layer. ``type`` is a type of ``tarfile``."""

    path: str
    content: bytes = b""
    type: bytes = tarfile.REGTYPE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = EPOCH_S
    link: str = ""
    pax: Mapping[str, str] = field(default_factory=dict)
    device: tuple[int, int] = (0, 0)


def tar(members: Sequence[Member], *, padding: int = 0) -> bytes:
    """The members as a tar; ``padding`` is how many blocks of zeros follow it."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as archive:
        for member in members:
            info = tarfile.TarInfo(member.path)
            info.type, info.mode, info.mtime = member.type, member.mode, member.mtime
            info.uid, info.gid, info.linkname = member.uid, member.gid, member.link
            info.devmajor, info.devminor = member.device
            info.pax_headers = dict(member.pax)
            info.size = len(member.content)
            archive.addfile(info, io.BytesIO(member.content))
    return buffer.getvalue() + bytes(512 * padding)


def compressed(data: bytes, how: str, level: int = 3) -> bytes:
    """``how`` is ``gzip``, ``zstd`` or ``none``."""
    if how == "gzip":
        return gzip.compress(data, level, mtime=0)
    return zstandard.ZstdCompressor(level=level).compress(data) if how == "zstd" else data


@dataclass(frozen=True)
class HandLayer:
    """``diff_id`` is what the configuration says, where it lies about the layer."""

    members: Sequence[Member]
    created_by: str = "RUN make"
    compression: str = "zstd"
    level: int = 3
    padding: int = 0
    diff_id: str | None = None


def layout(
    folder: Path, layers: Sequence[HandLayer], config: Mapping[str, Any] | None = None
) -> Path:
    """Writes an OCI layout with one image to the new folder."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    descriptors, diff_ids, history = [], [], []
    for layer in layers:
        data = tar(layer.members, padding=layer.padding)
        suffix = "" if layer.compression == "none" else f"+{layer.compression}"
        descriptors.append(
            put(
                compressed(data, layer.compression, layer.level),
                f"application/vnd.oci.image.layer.v1.tar{suffix}",
            )
        )
        diff_ids.append(layer.diff_id or f"sha256:{hashlib.sha256(data).hexdigest()}")
        history.append({"created": "2026-01-01T00:00:00Z", "created_by": layer.created_by})
    settings = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Labels": {"title": "hand-made"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
        **(config or {}),
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(settings).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": descriptors,
    }
    entry = put(json.dumps(manifest).encode(), str(manifest["mediaType"]))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder
