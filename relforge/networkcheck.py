"""Looks at what the site configuration says of the network: its files, its proxy, its mirrors.

Each look is a finding with a remedy, as those of ``hostcheck``; what the site does not name is not
looked at.
"""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from relforge.addresses import shown
from relforge.errors import RelforgeError
from relforge.hostcheck import Finding
from relforge.manifest.site import Site
from relforge.network import PROXY_HINT, Proxy, proxies_for, read_certificates
from relforge.sources.places import proxy_of, why_unreachable


def files(site: Site) -> list[Finding]:
    """The files that the site names: certificates, and the proxy's password. Asks nobody."""
    findings = []
    if site.extra_ca is not None:
        findings.append(_certificates(site.extra_ca, site))
    if site.proxy is not None and site.proxy.password_file is not None:
        try:
            Proxy.of(site)
        except RelforgeError as error:
            findings.append(_fault("proxy's password", error))
    return findings


def looks(site: Site) -> list[Finding]:
    """The files, and whether proxy and mirrors take a connection; all are asked at once."""
    findings = files(site)
    if any(finding.state == "missing" for finding in findings):
        return findings
    proxy = Proxy.of(site)
    if proxy is not None:
        for address in dict.fromkeys(filter(None, (proxy.http, proxy.https))):
            why = why_unreachable(address, site.python.index_timeout_s)
            findings.append(
                Finding(
                    name="proxy",
                    state="missing" if why else "ok",
                    found=f"{shown(address)} {f'does not answer: {why}' if why else 'answers'}",
                    remedy=PROXY_HINT if why else "",
                )
            )
    places = _mirrors(site)
    if places:
        findings.append(_answering(places, site, proxy))
    return findings


def _answering(places: dict[str, str], site: Site, proxy: Proxy | None) -> Finding:
    def why(url: str) -> str | None:
        return why_unreachable(url, site.python.index_timeout_s, proxies=proxies_for(url, proxy))

    with ThreadPoolExecutor(len(places)) as pool:
        answers = dict(zip(places, pool.map(why, places), strict=True))
    silent = [f"{shown(u)} ({places[u]}): {no}" for u, no in answers.items() if no]
    through = any(proxy_of(url, proxies_for(url, proxy)) for url, no in answers.items() if no)
    return Finding(
        name="mirrors",
        state="warning" if silent else "ok",
        found="; ".join(silent) or f"answering: {len(places)}",
        remedy=(
            f"{PROXY_HINT + '; or ' if through else ''}correct these in "
            f"{site.file or 'the site configuration'}, or make them reachable"
        )
        if silent
        else "",
    )


def _mirrors(site: Site) -> dict[str, str]:
    """Addresses of mirrors, with the setting that names them; folders are left out."""
    found = {mirror.to: "git_mirrors" for mirror in site.git_mirrors}
    found |= {mirror.to: "python.index_mirrors" for mirror in site.python.index_mirrors}
    for mirror in site.registry_mirrors:
        # The engine asks them, with settings of its own; from here only the host can be looked at.
        found[f"https://{mirror.to.split('/', 1)[0]}/"] = "registry_mirrors"
    apt = {"apt_mirror": site.apt_mirror, "ubuntu_mirror": site.ubuntu_mirror}
    found |= {mirror: name for name, mirror in apt.items() if mirror}
    for name, hub in (("huggingface", site.hubs.huggingface), ("modelscope", site.hubs.modelscope)):
        if hub.endpoint:
            found[hub.endpoint] = f"hubs.{name}.endpoint"
    return {url: name for url, name in found.items() if urlsplit(url).scheme in ("http", "https")}


def _certificates(path: Path, site: Site) -> Finding:
    try:
        read_certificates(path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=str(path))
    except RelforgeError as error:
        return _fault("extra CA", error)
    except ssl.SSLError as error:
        return Finding(
            name="extra CA",
            state="missing",
            found=f"{path}: {error.reason or error}",
            remedy=f"correct the file, or extra_ca in {site.file or 'the site configuration'}",
        )
    found = f"{path}, certificates: {len(context.get_ca_certs())}"
    return Finding(name="extra CA", state="ok", found=found)


def _fault(name: str, error: RelforgeError) -> Finding:
    return Finding(
        name=name,
        state="missing",
        found=f"{error.where}: {error.why}",
        remedy=error.hint or "correct the site configuration",
    )
