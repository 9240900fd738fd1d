"""The hosts that a site lends to releases of several nodes, for the stages that serve them."""

from __future__ import annotations

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.hosts import HostNode
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.serving.place import hosts_of


def site_hosts(release: Release, site: Site) -> tuple[HostNode, ...] | None:
    """The hosts in order of rank; None for a release of one node, which this host serves.

    Raises RelforgeError: ENVIRONMENT when the site names no nodes file for the release or its
    device, USAGE when the file is wrong or has another number of nodes.
    """
    if release.serve.nodes == 1:
        return None
    file = site.nodes.get(release.name) or site.nodes.get(release.device)
    if file is None:
        raise RelforgeError(
            f"{release.name} is served by {release.serve.nodes} nodes, and the site names none",
            code=ExitCode.ENVIRONMENT,
            where=str(site.file or "the site configuration"),
            why=f"nodes has neither {release.name} nor {release.device}",
            hint="write a nodes file with address and context of each host (docs/manifests.md), "
            f"and add to the site configuration: nodes: {{{release.name}: hosts.yaml}}",
        )
    return hosts_of(str(file), release)
