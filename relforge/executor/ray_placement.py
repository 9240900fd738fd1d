"""Which host a job needs: pure rules, from what stage and inputs declare.

A worker advertises (docs/ray.md): ``arch_<architecture>``, ``docker``, each device by its name with
the number of its accelerators and ``<device>_jobs``, ``identities`` and ``key_<fingerprint>`` for
what it can open, ``disk_bytes``, and ``relforge_slots``, of which a job that measures takes all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from relforge.frozen import Frozen
from relforge.stage import Resources

ALL_SLOTS = 1000
"""A host has so many; an ordinary job takes one, and one that measures all of them."""
SLOTS = "relforge_slots"
DOCKER = "docker"
DISK = "disk_bytes"
IDENTITIES = "identities"
_PRESENCE = 0.001
"""Of a resource that only says that something is there, and is not used up."""
_FINGERPRINT_DIGITS = 16


class Placement(Frozen):
    """What a host has to have, in Ray's terms; ``resources`` are custom ones by name.

    ``one_of`` are sets of keys: of each set the host needs one.
    """

    cpu_cores: int
    memory_bytes: int
    resources: dict[str, float]
    one_of: tuple[tuple[str, ...], ...] = ()

    def with_keys(self, chosen: Iterable[str]) -> Placement:
        """The same with one key of each set; they are ordinary resources then."""
        keys = dict.fromkeys(chosen, _PRESENCE)
        return self.model_copy(update={"resources": {**self.resources, **keys}, "one_of": ()})


class Host(Frozen):
    """One node of the cluster, as Ray knows it. ``resources`` are all that it has, used or not."""

    node_id: str
    name: str
    alive: bool
    resources: dict[str, float]


def key_resource(fingerprint: str) -> str:
    """The resource of a host that has the private key of a recipient."""
    return f"key_{fingerprint[:_FINGERPRINT_DIGITS]}"


MANY_JOBS = 1000
"""On a processor: cores and memory are the limits."""


def jobs_resource(device: str) -> str:
    """Of which each job on the device takes one."""
    return f"{device}_jobs"


def placement(
    needs: Resources,
    inputs: Any,
    *,
    alone: bool = False,
    secrets: Iterable[str] = (),
    openers: Iterable[Iterable[str]] = (),
    opens_here: Iterable[str] = (),
) -> Placement | None:
    """What the job's host needs; None: the driver does it itself.

    ``inputs`` may say an ``architecture``, or have a ``device`` and a ``release`` (those of stages
    that serve). ``openers`` are the fingerprints of the recipients of each sealed patch set, none
    for one that does not name them; ``opens_here`` those of the driver's own keys.
    """
    sets = tuple(tuple(one) for one in openers)
    sealed = "identities" in secrets
    own = set(opens_here)
    opened_here = bool(own) and all(own & set(one) if one else True for one in sets)
    if not needs.engine and needs.device is None and (not sealed or opened_here):
        return None
    resources: dict[str, float] = {SLOTS: ALL_SLOTS if alone else 1}
    if (architecture := _architecture(inputs)) is not None:
        resources[f"arch_{architecture}"] = _PRESENCE
    if needs.engine:
        resources[DOCKER] = 1
    if needs.device is not None:
        resources[needs.device] = _accelerators(inputs)
        resources[jobs_resource(needs.device)] = 1
    if needs.disk_bytes:
        resources[DISK] = needs.disk_bytes
    if sealed:
        resources[IDENTITIES] = _PRESENCE
    return Placement(
        cpu_cores=needs.cpu_cores,
        memory_bytes=needs.memory_bytes,
        resources=resources,
        one_of=tuple(tuple(key_resource(f) for f in one) for one in sets if one) if sealed else (),
    )


def chosen(wanted: Placement, hosts: Iterable[Host]) -> Placement:
    """The placement with keys of a host that fits, else with the first of each set, to wait for."""
    if not wanted.one_of:
        return wanted
    for host in hosts:
        if lacking(wanted, host) is None:
            return wanted.with_keys(
                next(key for key in one if key in host.resources) for one in wanted.one_of
            )
    return wanted.with_keys(one[0] for one in wanted.one_of)


def lacking(wanted: Placement, host: Host) -> str | None:
    """What the host does not have, even when nothing runs on it; None: it fits."""
    if SLOTS not in host.resources:
        return "relforge worker"
    amounts = {"CPU": wanted.cpu_cores, "memory": wanted.memory_bytes, **wanted.resources}
    # What is rare comes first: it is what people look for.
    for name in sorted(amounts, key=lambda one: (one in ("CPU", "memory", DISK, SLOTS), one)):
        if host.resources.get(name, 0) < amounts[name]:
            return name
    for one in wanted.one_of:
        if not any(key in host.resources for key in one):
            return " or ".join(one)
    return None


def why_nowhere(wanted: Placement, hosts: Iterable[Host]) -> str:
    """In words for people, why no host takes the job."""
    alive = [host for host in hosts if host.alive]
    for name in (*sorted(wanted.resources), *(" or ".join(one) for one in wanted.one_of)):
        names = name.split(" or ")
        if not any(any(n in host.resources for n in names) for host in alive):
            return f"no host has {name} now"
    own = [host for host in alive if SLOTS in host.resources]
    missing = ", ".join(f"{host.name} lacks {lacking(wanted, host)}" for host in own)
    return f"no host has all that it needs: {missing}"


def _architecture(inputs: Any) -> str | None:
    found = getattr(inputs, "architecture", None)
    device = getattr(inputs, "device", None)
    if found is None and isinstance(device, Mapping):
        found = device.get("architecture")
    return found if isinstance(found, str) else None


def _accelerators(inputs: Any) -> float:
    """Accelerators that the launch takes of one node; a processor is only there."""
    device, release = getattr(inputs, "device", None), getattr(inputs, "release", None)
    if not isinstance(device, Mapping) or not isinstance(release, Mapping):
        return 1
    if not device.get("accelerator", True):
        return _PRESENCE
    from relforge.manifest.release import Release

    serve = Release.model_validate(release).serve
    return max(1, serve.accelerators // serve.nodes)
