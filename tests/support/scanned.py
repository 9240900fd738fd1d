"""Layouts with planted contents, and secrets that are made when a test asks for them.

No secret stands in this repository as one string: its own files are searched, too.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import random
import string
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import zstandard

from relforge.engine.layout import ImageFacts, describe
from relforge.frozen import canonical_json
from relforge.manifest.publishing import ContentPolicy
from relforge.scanning.private_keys import private_key_rules
from relforge.scanning.rules import Rule, Searcher
from relforge.scanning.sealed import SealedMarkers
from relforge.scanning.secrets import secret_rules
from relforge.scanning.seeking import Finder

Packing = Literal["zstd", "gzip", "plain"]
_OCI = "application/vnd.oci.image."
_SUFFIX = {"zstd": "+zstd", "gzip": "+gzip", "plain": ""}


def random_text(
    length: int, signs: str = string.ascii_letters + string.digits, seed: int = 1
) -> str:
    """Random characters, the same each time; digits and both cases are among them."""
    chosen = random.Random(seed)
    while True:
        text = "".join(chosen.choice(signs) for _ in range(length))
        kinds = (str.isdigit, str.isupper, str.islower)
        wanted = [kind for kind in kinds if any(map(kind, signs))]
        if all(sum(map(kind, text)) >= min(6, length // 6) for kind in wanted):
            return text


def jwt(claims: Mapping[str, object]) -> str:
    """A web token with a signature that is random."""

    def part(value: Mapping[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.{random_text(43)}"


def pem(kind: str, *, size: int = 200, seed: int = 3) -> str:
    """A PEM file of random bytes."""
    body = base64.b64encode(random.Random(seed).randbytes(size)).decode()
    rows = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {kind}-----", *rows, f"-----END {kind}-----", ""])


def age_identity(seed: int = 5) -> str:
    """An age identity of random characters."""
    return "AGE-SECRET-" + "KEY-1" + random_text(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", seed)


def finder(
    *rules: Rule, policy: ContentPolicy | None = None, sealed: Iterable[SealedMarkers] = ()
) -> Finder:
    """Secrets and private keys, and the rules given."""
    every = (*secret_rules(), *private_key_rules(), *rules)
    return Finder(Searcher(every), policy or ContentPolicy(), tuple(sealed))


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of these files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def make_layout(
    folder: Path,
    *layers: Mapping[str, bytes],
    packing: Packing = "zstd",
    config: Mapping[str, Any] | None = None,
    steps: Iterable[str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> ImageFacts:
    """An OCI layout of one image; ``config`` is its part of that name, ``steps`` its history."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    tars = [tar(files) for files in layers]
    packers: dict[str, Callable[[bytes], bytes]] = {
        "zstd": zstandard.ZstdCompressor().compress,
        "gzip": lambda data: gzip.compress(data, mtime=0),
        "plain": bytes,
    }
    pack = packers[packing]
    whole = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config or {}),
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in tars],
        },
        "history": [
            {"created_by": step} for step in (steps or [f"COPY {n}" for n in range(len(tars))])
        ],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}manifest.v1+json",
        "config": put(canonical_json(whole), f"{_OCI}config.v1+json"),
        "layers": [put(pack(data), f"{_OCI}layer.v1.tar{_SUFFIX[packing]}") for data in tars],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    entry = put(canonical_json(manifest), f"{_OCI}manifest.v1+json")
    entry["platform"] = {"architecture": "amd64", "os": "linux"}
    index = {"schemaVersion": 2, "mediaType": f"{_OCI}index.v1+json", "manifests": [entry]}
    (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_bytes(canonical_json(index))
    return describe(folder)
