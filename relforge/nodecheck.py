"""A look at the hosts of a release of several nodes; it never raises, as those of hostcheck."""

from __future__ import annotations

from relforge.errors import RelforgeError
from relforge.hostcheck import Finding
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.serving.site_nodes import site_hosts


def nodes(release: Release, site: Site) -> Finding:
    """Whether the site names hosts for *release*, and a container engine answers on each."""
    from relforge.engine.client import connect
    from relforge.serving.nodes import site_of

    try:
        hosts = site_hosts(release, site) or ()
    except RelforgeError as error:
        found = ": ".join(part for part in (error.where, error.what, error.why) if part)
        return _missing([found], [error.hint or "correct nodes in the site configuration"])
    silent: list[RelforgeError] = []
    faults: list[str] = []
    for host in hosts:
        try:
            connect(site_of(host.context, site.engine)).close()
        except RelforgeError as error:
            silent.append(error)
            faults.append(f"{host.name}: {error.what} at {error.where}: {error.why}")
    if faults:
        return _missing(faults, [error.hint for error in silent])
    names = ", ".join(host.name for host in hosts)
    return Finding(name="nodes", state="ok", found=f"an engine answers on {names}")


def _missing(found: list[str], remedies: list[str | None]) -> Finding:
    return Finding(
        name="nodes",
        state="missing",
        found="; ".join(found),
        remedy="\n".join(dict.fromkeys(remedy for remedy in remedies if remedy)),
    )
