"""What no layer of an image may hold: caches, logs, identities, and times of the build."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from relforge.rebuilding.entries import Entry, opened
from relforge.rebuilding.image import Image, from_layout
from tests.support.handmade import EPOCH_S

FORBIDDEN = [
    re.compile(pattern)
    for pattern in (
        r"^/(root|home/[^/]+)/\.cache/",
        r"^/(root|home/[^/]+)/\.(pip|local|ccache|config/pip)/",
        r"/(pip|uv|ccache|\.uv|\.uv_cache)/(http|http-v2|wheels|archive-v0|simple-v\d+)/",
        r"/CACHEDIR\.TAG$",
        r"^/(var/)?tmp/.",
        r"^/var/cache/(apt|ldconfig|ccache)/.",
        r"^/var/lib/apt/lists/.",
        r"^/var/lib/dpkg/[^/]+-old$",
        r"^/var/cache/debconf/[^/]+-old$",
        r"^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$",
        r"^/var/log/(apt|dpkg|alternatives|bootstrap|pip)",
        r"\.log$",
        r"^/etc/machine-id$",
        r"^/etc/ssh/ssh_host_.*key",
        r"\.dist-info/(uv_cache|direct_url)\.json$",
        r"^/(wheels?|tools|src|layers|precompiled|run/secrets)(/|$)",
        r"\.gcda$|\.pyc\.\d+$",
    )
]
ALLOWED = re.compile(
    r"^/opt/venv/CACHEDIR\.TAG$"  # of every environment that uv makes; its content is fixed
    r"|^/var/log/(btmp|wtmp|lastlog|faillog)$"
    r"|\.wh\."
    r"|/numpy/distutils/__pycache__/conv_template\."  # of its wheel, with the time in that
)


def residue(layout: Path) -> Iterator[str]:
    """Each thing in the layers that should not be there, as one line."""
    image = from_layout(layout)
    for index, descriptor in enumerate(image.manifest["layers"]):
        for entry, head in _members(image, str(descriptor["digest"])):
            words = f"layer {index}: {entry.path}"
            if ALLOWED.search(entry.path):
                continue
            if entry.type != "folder" and any(p.search(entry.path) for p in FORBIDDEN):
                yield words
            # The first layer is the base; Debian's own scripts compiled what is in it.
            if index and entry.path.endswith(".pyc") and not struct.unpack("<I", head[4:8])[0] & 1:
                yield f"{words}: bytecode with the time of its source"


def written_at(layout: Path) -> Iterator[tuple[int, Entry]]:
    """Entries of layers on the base whose time is neither the fixed one nor a package's."""
    image = from_layout(layout)
    history = [h for h in image.config["history"] if not h.get("empty_layer")]
    base = set()
    for index, descriptor in enumerate(image.manifest["layers"]):
        for entry, _ in _members(image, str(descriptor["digest"])):
            if history[index]["created_by"].startswith("ADD "):
                base.add((entry.path, entry.mtime_s))
            elif (
                entry.mtime_s != EPOCH_S
                and "/.wh." not in entry.path
                and (entry.path, entry.mtime_s) not in base
            ):
                yield index, entry


def _members(image: Image, digest: str) -> Iterator[tuple[Entry, bytes]]:
    with opened(lambda: image.open_layer(digest), digest) as layer:
        for entry, content in layer.members():
            yield entry, content.read(16) if content else b""
