"""Looks at this host, each with what was found and what to do; doctor shows them, preflight asks.

A look costs at most a few seconds, changes nothing, and never raises: a fault is a finding.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.site import Site
from relforge.ui.text import size

State = Literal["ok", "warning", "missing", "not-run"]
"""``not-run``: the look could not be taken, and ``found`` says why; never as good as ``ok``."""


class Finding(Frozen):
    """One look. ``remedy`` is the next command or step; empty when all is well."""

    name: str
    state: State
    found: str
    remedy: str = ""


_BUILDKIT_TIMEOUT_S = 20.0
Look = Callable[[], Finding]


def engine(site: Site, needed_bytes: int = 0) -> list[Finding]:
    """A container engine that answers, builds with BuildKit and keeps OCI images; and the space
    it has, where it is on this host."""
    from relforge.engine.cli import engine_facts

    try:
        facts = engine_facts(site.engine)
    except RelforgeError as error:
        return [
            Finding(
                name="engine",
                state="missing",
                found=": ".join(p for p in (error.what, error.why) if p),
                remedy=error.hint or "scripts/engine up",
            )
        ]
    found = f"Docker {facts.server_version}, buildx {facts.buildx_version}, at {facts.host}"
    if facts.image_store != "containerd":
        return [
            Finding(
                name="engine",
                state="missing",
                found=f"{found}, with the classic image store",
                remedy='set {"features": {"containerd-snapshotter": true}} in its daemon.json, '
                "or: scripts/engine up --force-own",
            )
        ]
    answers = Finding(name="engine", state="ok", found=found)
    if facts.free_disk_bytes is None:
        return [answers]
    return [
        answers,
        _space(
            "engine's disk",
            Path(facts.data_root),
            facts.free_disk_bytes,
            needed_bytes,
            "docker system prune, or give the engine a data root with more space",
        ),
    ]


def buildkit(site: Site) -> Finding:
    """The BuildKit behind the builder that builds take: whether it runs."""
    from relforge import proc
    from relforge.engine.cli import find_cli

    try:
        cli = find_cli(site.engine)
        done = proc.run(
            cli.argv("buildx", "inspect", site.engine.builder),
            code=ExitCode.ENVIRONMENT,
            env=cli.environment,
            timeout_s=_BUILDKIT_TIMEOUT_S,
            check=False,
        )
    except RelforgeError as error:
        return Finding(
            name="BuildKit", state="not-run", found=error.what, remedy="see the finding `engine`"
        )
    told = dict(re.findall(r"(?m)^(Status|Error): +(.+)$", done.text))
    if told.get("Status") == "running":
        found = f"the builder `{site.engine.builder}` runs, through buildx {cli.buildx_version}"
        return Finding(name="BuildKit", state="ok", found=found)
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return Finding(
        name="BuildKit",
        state="missing",
        found=f"the builder `{site.engine.builder}` does not run: "
        + (told.get("Error") or told.get("Status") or " ".join(last) or "it tells no status"),
        remedy=f"docker buildx inspect {site.engine.builder}; scripts/engine up, or start your "
        "engine",
    )


def disk(path: Path, needed_bytes: int) -> Finding:
    """Free space where *path* lies, or will lie."""
    place = path
    while not place.exists():
        place = place.parent
    return _space(
        "disk",
        place,
        shutil.disk_usage(place).free,
        needed_bytes,
        "free disk space, or set another home in the site configuration",
    )


def _space(name: str, place: Path, free_bytes: int, needed_bytes: int, remedy: str) -> Finding:
    found = f"{size(free_bytes)} free at {place}"
    if free_bytes < needed_bytes:
        return Finding(
            name=name,
            state="missing",
            found=f"{found}, {size(needed_bytes)} are needed",
            remedy=remedy,
        )
    return Finding(name=name, state="ok", found=found)


def memory(needed_bytes: int) -> Finding:
    """Memory that is available now, from the kernel's own estimate."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            found = f"{size(free)} available"
            if free < needed_bytes:
                return Finding(
                    name="memory",
                    state="warning",
                    found=f"{found}, {size(needed_bytes)} are advised",
                    remedy="end other programs, or serve with fewer sequences",
                )
            return Finding(name="memory", state="ok", found=found)
    return Finding(name="memory", state="warning", found="the kernel does not say")


def bootstrap() -> Finding:
    """What making a base image from Debian packages needs."""
    if shutil.which("debootstrap") is None:
        return Finding(
            name="debootstrap",
            state="missing",
            found="not on PATH",
            remedy="apt-get install debootstrap",
        )
    if os.geteuid() != 0:
        return Finding(
            name="debootstrap",
            state="missing",
            found="it needs root, and this is another user",
            remedy="run as root, or name a base image in a registry that can be reached",
        )
    return Finding(name="debootstrap", state="ok", found="there, and we are root")


def evaluator() -> Finding:
    """The extra that evaluates."""
    if importlib.util.find_spec("lm_eval") is None:
        return Finding(
            name="lm-eval",
            state="missing",
            found="not installed",
            remedy="pip install 'relforge[eval]'",
        )
    return Finding(name="lm-eval", state="ok", found="installed")


def plotter() -> Finding:
    """The extra that draws a benchmark."""
    if importlib.util.find_spec("matplotlib") is None:
        return Finding(
            name="matplotlib",
            state="missing",
            found="not installed",
            remedy="pip install 'relforge[bench]'",
        )
    return Finding(name="matplotlib", state="ok", found="installed")


def identities(paths: Iterable[Path], passphrase_file: Path | None = None) -> Finding:
    """Private keys for sealed patch sets: which can be used, which cannot, who else can read them.

    Asks nobody: a key under a passphrase that was not given before is only named.
    """
    from relforge.patching.keys import (
        KeyFinding,
        LockedKey,
        given_passphrase,
        load_identities,
    )

    good: list[str] = []
    bad: list[KeyFinding] = []
    usable = True
    for path in paths:
        try:
            found = load_identities([path], passphrase=given_passphrase(passphrase_file))
        except LockedKey as error:
            bad.append(KeyFinding(error.path, error.what, error.hint or "", "locked"))
        except RelforgeError as error:
            # A path that was named and gives no key ends every command that needs the keys.
            usable = False
            problem = f"{error.what}: {error.why}" if error.why else error.what
            bad.append(KeyFinding(path, problem, error.hint or "", "unusable"))
        else:
            good += [f"{key.path} ({key.id})" for key in found.keys]
            bad += found.findings
    if not good and not bad:
        return Finding(
            name="keys",
            state="missing",
            found="no private key",
            remedy="name one with --key-path, or under identities in the site configuration",
        )
    return Finding(
        name="keys",
        state="missing" if not usable else "warning" if bad else "ok",
        found="; ".join([*(f"{finding.path}: {finding.problem}" for finding in bad), *good]),
        remedy="\n".join(dict.fromkeys(finding.remedy for finding in bad if finding.remedy)),
    )


def signing_key(site: Site, *, needed: bool = False) -> Finding:
    """The key that signs releases. Asks nobody, as ``identities`` does; where it is ``needed`` now,
    a locked one is missing."""
    from relforge.attesting.signing import SigningKey
    from relforge.patching.keys import LockedKey, exposed_keys

    name = "signing key"
    try:
        key = SigningKey.load(site)
    except LockedKey as error:
        return Finding(
            name=name,
            state="missing" if needed else "warning",
            found=f"{error.path}: {error.what}",
            remedy=error.hint or "",
        )
    except RelforgeError as error:
        found = ": ".join(part for part in (error.where, error.what, error.why) if part)
        return Finding(name=name, state="missing", found=found, remedy=error.hint or "")
    if key is None:
        return Finding(
            name=name,
            state="not-run",
            found="the site configuration names none; releases are not signed",
            remedy="relforge keys new makes one; name it under publish.signing",
        )
    found = f"{key.path} ({key.algorithm}, key id {key.keyid})"
    for exposed in exposed_keys([key.path]):
        return Finding(
            name=name, state="warning", found=f"{found}: {exposed.problem}", remedy=exposed.remedy
        )
    return Finding(name=name, state="ok", found=found)
