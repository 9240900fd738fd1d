"""A small image to look into: a Debian system with three packages, and Python with three more."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

_STATUS = """\
Package: tool
Status: install ok installed
Maintainer: Somebody <somebody@example.org>
Architecture: amd64
Version: 1.2-3
Description: a tool

Package: choice
Status: install ok installed
Maintainer: Somebody <somebody@example.org>
Architecture: amd64
Version: 2.0-1
Description: a choice of licences

Package: plain
Status: install ok installed
Maintainer: Somebody <somebody@example.org>
Architecture: all
Version: 7-1
Description: a copyright file in free text
"""
_DEP5 = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
_TOOL = (
    _DEP5 + "Files: *\nCopyright: 2020 Somebody\nLicense: GPL-3+\n\n"
    "Files: lib/*\nCopyright: 2020 Somebody\nLicense: Expat\n\n"
    "License: GPL-3+\n Whatever the text is.\n\nLicense: Expat\n Whatever the text is.\n"
)
_CHOICE = _DEP5 + "Files: *\nCopyright: 2020 Somebody\nLicense: AGPL-3 or Apache-2.0, and ISC\n"
_FREE = "It was written by somebody. On Debian systems, see /usr/share/common-licenses/LGPL-2.1.\n"
SITE = "opt/venv/lib/python3.11/site-packages"

SYSTEM: dict[str, str] = {
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n',
    "var/lib/dpkg/status": _STATUS,
    "usr/share/doc/tool/copyright": _TOOL,
    "usr/share/doc/choice/copyright": _CHOICE,
    "usr/share/doc/plain/copyright": _FREE,
}


def distribution(name: str, version: str, *heads: str, folder: str = SITE) -> dict[str, str]:
    """The files of an installed distribution with these lines in its METADATA."""
    info = f"{folder}/{name}-{version}.dist-info"
    head = "\n".join(("Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *heads))
    return {
        f"{info}/METADATA": f"{head}\n\nA description.\n",
        f"{info}/RECORD": f"{name}/__init__.py,,\n",
        f"{info}/INSTALLER": "pip\n",
        f"{folder}/{name}/__init__.py": "",
    }


PYTHON: dict[str, str] = {
    **distribution("alpha_server", "1.0", "License-Expression: Apache-2.0 OR MIT"),
    **distribution("beta", "0.2", "License: UNKNOWN", "Classifier: License :: OSI Approved :: "
                   "GNU Affero General Public License v3 or later (AGPLv3+)"),
    **distribution("vendored", "9", "License: Own Words", folder=f"{SITE}/alpha_server/_vendor"),
}  # fmt: skip


def layout_of(folder: Path, *layers: dict[str, str], labels: dict[str, str] | None = None) -> Path:
    """An OCI layout of one image, a layer for each set of files; the same bytes each time."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    oci = "application/vnd.oci.image."
    tars = [_tar(files) for files in layers]
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Labels": labels or {}},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
        },
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci + "manifest.v1+json",
        "config": put(json.dumps(config).encode(), oci + "config.v1+json"),
        "layers": [put(gzip.compress(tar, mtime=0), oci + "layer.v1.tar+gzip") for tar in tars],
    }
    entry = put(json.dumps(manifest).encode(), oci + "manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder


def _tar(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, text in sorted(files.items()):
            info = tarfile.TarInfo(path)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()
