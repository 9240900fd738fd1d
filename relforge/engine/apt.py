"""Which Debian mirror this host uses, and what an image's sources.list says.

The image names the standard mirror that debootstrap itself knows, so that nothing of this host
is published. Where the host has a mirror of its own, a build mounts ``build_sources`` over
``/etc/apt/sources.list`` as a BuildKit secret: BuildKit keeps it out of layers and cache keys.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from relforge import proc
from relforge.errors import ExitCode
from relforge.manifest.site import Site

_IN_RELEASE = re.compile(r"^'(?P<uri>\S+)/dists/(?P<suite>[^/']+)(?:/updates)?/InRelease'")
_DEFAULT = re.compile(r'^\s*DEF_MIRROR="?(?P<uri>[a-z]+://[^"\s]+)"?', re.MULTILINE)
_ROLLING = ("sid", "unstable", "testing", "experimental")


def bootstrap_mirror(suite: str, site: Site) -> str | None:
    """The mirror to bootstrap from: the site's, else this host's for that suite, else None."""
    if site.apt_mirror:
        return site.apt_mirror.rstrip("/")
    return next((uri for uri, name in host_sources() if name == suite), None)


def image_sources(suite: str, used: str | None) -> str:
    """The sources.list that the image carries; ``used`` is the mirror it was made from, which
    stands in only when debootstrap's own default cannot be read."""
    return _lines(_standard(default_mirror() or used, suite))


def build_sources(suite: str, site: Site) -> str | None:
    """The sources.list to mount while building here, or None when the image's own will do."""
    if site.apt_mirror:
        entries = _standard(site.apt_mirror.rstrip("/"), suite)
    else:
        wanted = {suite, f"{suite}-updates", f"{suite}-security"}
        entries = [(uri, name) for uri, name in host_sources() if name in wanted]
        if not any(name == suite for _, name in entries):
            return None
    text = _lines(entries)
    return None if text == image_sources(suite, None) else text


def default_mirror() -> str | None:
    """The mirror that debootstrap takes when it is told none."""
    program = shutil.which("debootstrap")
    found = _DEFAULT.search(Path(program).read_text(errors="replace")) if program else None
    return found["uri"].rstrip("/") if found else None


def host_sources() -> list[tuple[str, str]]:
    """(mirror, suite) of this host's apt sources, as apt itself reads them; empty without apt."""
    if shutil.which("apt-get") is None:
        return []
    done = proc.run(
        ["apt-get", "update", "--print-uris"],
        code=ExitCode.ENVIRONMENT,
        env={"LC_ALL": "C.UTF-8"},
        timeout_s=20,
        check=False,
    )
    found = (_IN_RELEASE.match(line) for line in done.text.splitlines())
    return [(m["uri"].rstrip("/"), m["suite"]) for m in found if m]


def _standard(mirror: str | None, suite: str) -> list[tuple[str, str]]:
    # Debian's own layout: security updates lie beside the main archive.
    if not mirror:
        return []
    if suite in _ROLLING:
        return [(mirror, suite)]
    return [
        (mirror, suite),
        (mirror, f"{suite}-updates"),
        (f"{mirror}-security", f"{suite}-security"),
    ]


def _lines(entries: list[tuple[str, str]]) -> str:
    return "".join(f"deb {uri} {suite} main\n" for uri, suite in entries)
