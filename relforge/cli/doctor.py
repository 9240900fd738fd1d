"""``relforge doctor``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from relforge import hostcheck, networkcheck
from relforge.cli.common import (
    JsonOption,
    ProjectOption,
    SiteOption,
    Workplace,
    print_json,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError
from relforge.hostcheck import Finding

if TYPE_CHECKING:
    from relforge.devicequery import Need
    from relforge.manifest.device import Device
    from relforge.manifest.release import Release

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_GB = 10**9
_HOME_BYTES = 6 * _GB
_MARKS = {"ok": "ok     ", "warning": "warning", "missing": "missing", "not-run": "not-run"}
_WIDTH = 18


@app.command()
def doctor(
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="Also what this device needs here.", metavar="NAME"),
    ] = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Looks at this host: engine, disk, memory, tools, keys, proxy and mirrors, with remedies.

    With --device also at glibc, driver, device query, device files, container toolkit, and which
    launch profile would work. Exits 3 when something is missing; `not-run` is a look that could
    not be taken, and says why.
    """
    place = workplace(project, site)
    named = place.project.device(device) if device is not None else None
    releases = list(_releases(place, named)) if named is not None else []
    findings = [
        *hostcheck.engine(place.site, 8 * _GB),
        hostcheck.buildkit(place.site),
        hostcheck.disk(place.home, _HOME_BYTES + _weights_bytes(place, named)),
        hostcheck.memory(4 * _GB),
        hostcheck.bootstrap(),
        hostcheck.evaluator(),
        hostcheck.plotter(),
        *networkcheck.looks(place.site),
        _keys(place, named, releases),
        hostcheck.signing_key(place.site),
    ]
    if named is not None:
        from relforge import devicecheck

        findings += devicecheck.looks(named, place.site.engine, _need(releases))
    if json_:
        print_json(
            {
                "site": str(place.site_file) if place.site_file else None,
                "home": str(place.home),
                "device": named.name if named else None,
                "findings": [f.model_dump() for f in findings],
            }
        )
    else:
        sys.stdout.write(f"site configuration: {place.site_file or 'none'}\n")
        sys.stdout.write(f"home:               {place.home}\n")
        if named is not None:
            sys.stdout.write(f"device:             {named.name}, {named.title}\n")
        for finding in findings:
            sys.stdout.write(f"{_MARKS[finding.state]}  {finding.name:<{_WIDTH}} {finding.found}\n")
            for number, line in enumerate(finding.remedy.splitlines()):
                sys.stdout.write(f"{'':9}{'':{_WIDTH}} {' ' if number else '→'} {line}\n")
    if any(f.state == "missing" for f in findings):
        raise typer.Exit(int(ExitCode.ENVIRONMENT))


def _releases(place: Workplace, device: Device) -> Iterator[Release]:
    """The releases of a device that can be read; what is wrong with others, check tells."""
    for name in place.project.release_files:
        try:
            release = place.project.release(name)
            if place.project.device(release.device) == device:
                yield release
        except RelforgeError:
            continue


def _need(releases: list[Release]) -> Need | None:
    """What the largest of the releases takes of a node."""
    from relforge.devicequery import Need

    needs = [Need(one.name, one.serve.accelerators // one.serve.nodes) for one in releases]
    return max(needs, key=lambda need: need.per_node, default=None)


def _weights_bytes(place: Workplace, device: Device | None) -> int:
    """What the default release's weights take where they are fetched from a hub."""
    from relforge.manifest.weights import HuggingFaceWeights, ModelScopeWeights

    if device is None or device.default_release is None:
        return 0
    try:
        weights = place.project.model(place.project.default_release(device).model).weights
    except RelforgeError:
        return 0
    if not isinstance(weights, HuggingFaceWeights | ModelScopeWeights):
        return 0
    return sum(file.size_bytes for file in weights.pinned.values())


def _keys(place: Workplace, device: Device | None, releases: list[Release]) -> Finding:
    if place.site.identities:
        return hostcheck.identities(place.site.identities, place.site.key_passphrase_file)
    sealed = dict(_sealed(place, releases))
    if not sealed or device is None:
        return Finding(
            name="keys",
            state="not-run",
            found="the site configuration names no private key; only sealed patch sets need one",
            remedy="relforge keys new makes one" if device is None else "",
        )
    from relforge.devicequery import whom

    shown = "; ".join(f"{name} of {release}" for name, release in sealed.items())
    return Finding(
        name="keys",
        state="warning",
        found=f"no private key is named, and these patch sets are sealed: {shown}",
        remedy=f"relforge keys new, {whom(device)} to seal for its public side, and name the "
        "private one under identities in the site configuration",
    )


def _sealed(place: Workplace, releases: list[Release]) -> Iterator[tuple[str, str]]:
    """Sealed patch sets, each with the first release that has it."""
    from relforge.subject import subject

    seen: set[str] = set()
    for release in releases:
        if not release.patches:
            continue
        try:
            names = subject(place.project, release, place.site).sealed
        except RelforgeError:
            continue
        for name in names:
            if name not in seen:
                seen.add(name)
                yield name, release.name
