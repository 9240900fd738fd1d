"""Which mirrors of Debian and Ubuntu count here, and what an image's sources.list says.

The image names the standard mirror that debootstrap itself knows, so that nothing of this host
is published. Where the site or the host has a mirror of its own, a build mounts ``build_sources``
over ``/etc/apt/sources.list`` as a BuildKit secret (``site_secrets``).
"""

from __future__ import annotations

import os
import re
import shutil
from functools import lru_cache
from pathlib import Path

from relforge import proc
from relforge.addresses import login
from relforge.errors import ExitCode
from relforge.frozen import Frozen
from relforge.manifest.site import Site

# Documented in apt's own doc/acquire-additional-files; in the order of the source files.
_TARGETS = (
    *("indextargets", "--no-release-info", "--format"),
    *("$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"),
)
_DEFAULT = re.compile(r'^\s*DEF_MIRROR="?(?P<uri>[a-z]+://[^"\s]+)"?', re.MULTILINE)
_ROLLING = ("sid", "unstable", "testing", "experimental")
_COMPONENTS = {"debian": "main", "ubuntu": "main universe"}


class System(Frozen):
    """A distribution and its release, as ``/etc/os-release`` has them: ``debian``, ``bookworm``."""

    distribution: str
    suite: str


def bootstrap_mirror(suite: str, site: Site) -> str | None:
    """The mirror to bootstrap from: the site's, else this host's for that suite, else None."""
    if site.apt_mirror:
        return site.apt_mirror.rstrip("/")
    return host_sources().get(suite)


def image_sources(suite: str, used: str | None) -> str:
    """The sources.list that the image carries; ``used`` is the mirror it was made from, which
    stands in only when debootstrap's own default cannot be read."""
    system = System(distribution="debian", suite=suite)
    return _lines(_standard(default_mirror() or used, system), system)


def build_sources(system: System, site: Site) -> str | None:
    """The sources.list to mount while building here, or None when the image's own will do."""
    if system.distribution not in _COMPONENTS:
        return None
    named = site.apt_mirror if system.distribution == "debian" else site.ubuntu_mirror
    entries = _standard(named.rstrip("/") if named else None, system)
    if not entries:
        suites = (system.suite, f"{system.suite}-updates", f"{system.suite}-security")
        known = host_sources()
        if system.suite not in known:
            return None
        entries = [(known[suite], suite) for suite in suites if suite in known]
    text = _lines(entries, system)
    return None if text == image_sources(system.suite, None) else text


def default_mirror() -> str | None:
    """The mirror that debootstrap takes when it is told none."""
    program = shutil.which("debootstrap")
    found = _DEFAULT.search(Path(program).read_text(errors="replace")) if program else None
    return found["uri"].rstrip("/") if found else None


def host_sources() -> dict[str, str]:
    """The mirror of each suite in this host's apt sources, as apt itself reads them.

    Other vendors' repositories bear the names of suites, too: the first that has a ``main`` counts.
    Empty without apt.
    """
    program = shutil.which("apt-get")
    return dict(_sources_of(program, os.environ.get("APT_CONFIG"))) if program else {}


@lru_cache(maxsize=8)
def _sources_of(program: str, _config: str | None) -> dict[str, str]:
    """Asked once a process: apt takes half a second, and every build wants to know."""
    done = proc.run(
        (program, *_TARGETS),
        code=ExitCode.ENVIRONMENT,
        env={"LC_ALL": "C.UTF-8"},
        timeout_s=20,
        check=False,
    )
    found: dict[str, str] = {}
    for line in done.text.splitlines():
        mirror, suite, component, *_ = (*line.split(), "", "", "")
        # With a login it would end in argument lists, and in the image's own sources.
        if component == "main" and login(mirror) is None:
            found.setdefault(suite.removesuffix("/updates"), mirror.rstrip("/"))
    return found


def _standard(mirror: str | None, system: System) -> list[tuple[str, str]]:
    if not mirror:
        return []
    suite = system.suite
    if suite in _ROLLING:
        return [(mirror, suite)]
    # Debian's security updates lie beside the main archive, Ubuntu's in it.
    security = f"{mirror}-security" if system.distribution == "debian" else mirror
    return [(mirror, suite), (mirror, f"{suite}-updates"), (security, f"{suite}-security")]


def _lines(entries: list[tuple[str, str]], system: System) -> str:
    components = _COMPONENTS[system.distribution]
    return "".join(f"deb {uri} {suite} {components}\n" for uri, suite in entries)
