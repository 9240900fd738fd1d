"""The remedy of a cause in a manifest's own terms: which field, its value, and what to write."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from relforge.manifest.places import place
from relforge.manifest.release import Release
from relforge.serving.report import Cause, Change

_OTHER = "the log is of a launch with other settings"
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_UTILIZATION = 0.9  # vLLM's own default
_SAFE_UTILIZATION = 0.05


@dataclass(frozen=True)
class Manifest:
    """A release, and where its manifest lies when that is known."""

    release: Release
    path: Path | None = None

    def value(self, field: str) -> Any:
        """What the release has there, defaults included; None when nothing."""
        found: Any = self.release
        for name in _names(field):
            found = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
            if found is None:
                return None
        return found

    def where(self, field: str) -> str | None:
        """``file:line`` of the field, or of the section it belongs in."""
        if self.path is None:
            return None
        found = place(self.path, _names(field)).rpartition(":")[0]
        # As seen from the project's folder: manifests/releases/NAME.yaml.
        return found.removeprefix(f"{self.path.parents[2]}/")


@dataclass(frozen=True)
class _Advice:
    """``set`` is the new value; without one the field is named and left to the reader. With
    ``remove`` the field is to go."""

    field: str
    because: str
    set: Any = None
    remove: bool = False


def advised(cause: Cause, manifest: Manifest) -> Cause:
    """The cause with a remedy that names the value in *manifest*, its place, and what to write.

    A cause whose field lies in no release manifest, or of which nothing follows, keeps its general
    remedy, and gets its place.
    """
    rule = _RULES.get(cause.id)
    advice = rule(cause, manifest) if rule else None
    if advice is None:
        if not cause.field.startswith("serve."):
            return cause
        advice = _Advice(cause.field, "")
    now = manifest.value(advice.field)
    if advice.set is not None and advice.set == now:
        advice = replace(advice, set=None, because=f"{advice.because}: {_OTHER}")
    where = manifest.where(advice.field)
    shown = None if now is None else _scalar(now)
    line = None if advice.set is None else f"{_names(advice.field)[-1]}: {_scalar(advice.set)}"
    change = Change(field=advice.field, now=shown, where=where, set=line)
    return cause.model_copy(update={"remedy": _words(cause, change, advice), "change": change})


def _words(cause: Cause, change: Change, advice: _Advice) -> str:
    state = f"is {change.now}" if change.now is not None else "is not set"
    said = f"{change.field} {state}" + (f" in {change.where}" if change.where else "")
    if advice.because:
        said += f"; {advice.because}"
    if advice.remove:
        return f"{said}: remove it"
    if advice.because.endswith(_OTHER):
        return f"{said}. In general: {cause.remedy}"
    if change.set is not None:
        return f"{said}: set {change.field.rpartition('.')[0]}.{change.set}"
    return f"{said}: {cause.remedy}"


def _shm(cause: Cause, manifest: Manifest) -> _Advice | None:
    field = "serve.shm_bytes"
    if "/dev/shm" in manifest.release.serve.tmpfs:  # noqa: S108 (a path in the container)
        field = "serve.tmpfs./dev/shm.size_bytes"
    now = int(manifest.value(field))
    needed = _bytes(cause.facts.get("needed"))
    if needed is None:
        return _Advice(field, "that is too little", set=4 * now)
    because = f"the server asked for {cause.facts['needed']}"
    # Not exactly what it asked for: others use it too.
    return _Advice(field, because, set=now if now > needed else _power_of_two(needed + 1))


def _memory(_cause: Cause, manifest: Manifest) -> _Advice | None:
    now = manifest.release.serve.memory_bytes
    if now is None:
        return None
    return _Advice("serve.memory_bytes", "the server used more", set=2 * now)


def _length(cause: Cause, _manifest: Manifest) -> _Advice | None:
    fits, length = cause.facts.get("fits"), cause.facts.get("length")
    if fits is None or int(fits) < 1:
        return None
    what = "the model was made for" if cause.id == "context-too-long" else "the KV cache holds"
    return _Advice(
        "serve.args.max-model-len",
        f"{length} tokens are asked for and {what} {fits}",
        set=int(fits),
    )


def _heads(cause: Cause, _manifest: Manifest) -> _Advice | None:
    heads, size = cause.facts.get("heads"), cause.facts.get("size")
    if heads is None or size is None:
        return None
    fits = next(n for n in range(int(size), 0, -1) if int(heads) % n == 0)
    return _Advice("serve.tensor_parallel", f"the model has {heads} attention heads", set=fits)


def _port(cause: Cause, manifest: Manifest) -> _Advice | None:
    port = manifest.release.serve.port
    said = cause.facts.get("port")
    if said is not None and int(said) != port:
        return _Advice("serve.port", f"port {said} is taken, which the manifest does not name")
    place = (
        "on the host, whose network the server shares"
        if (manifest.release.serve.network == "host")
        else "in the container"
    )
    free = port + 1 if port < 65535 else port - 1
    return _Advice("serve.port", f"something listens there already {place}", set=free)


def _option(cause: Cause, manifest: Manifest) -> _Advice | None:
    option = cause.facts.get("option", "").lstrip("-").partition("=")[0]
    if not option:
        return None
    known = next(
        (k for k in manifest.release.serve.args if k.replace("_", "-") == option.replace("_", "-")),
        None,
    )
    if known is None:
        return None
    field = f"serve.args.{known}"
    if cause.id == "unknown-option":
        return _Advice(field, "this server has no such option", remove=True)
    return _Advice(field, f"the server says: {cause.facts.get('why', 'not a valid value')}")


def _named(field: str, value: Any, because: str) -> Callable[[Cause, Manifest], _Advice]:
    return lambda _cause, _manifest: _Advice(field, because, set=value)


def _utilization(cause: Cause, manifest: Manifest) -> _Advice | None:
    if manifest.release.engine == "sglang":
        return None
    field = "serve.args.gpu-memory-utilization"
    now = float(manifest.value(field) or _UTILIZATION)
    free, total = cause.facts.get("available"), cause.facts.get("total")
    if cause.id == "device-memory-taken" and free and total:
        share = math.floor((float(free) / float(total) - _SAFE_UTILIZATION) * 20) / 20
        if share <= 0:
            return None
        because = f"{free} of {total} GiB are free, and {now:g} of them is wanted"
        return _Advice(field, because, set=share)
    raised = min(0.98, round(now + _SAFE_UTILIZATION, 2))
    return (
        _Advice(field, f"{now:g} leaves nothing for the KV cache", set=raised)
        if (raised > now)
        else None
    )


def _kv_space(cause: Cause, _manifest: Manifest) -> _Advice | None:
    free, wanted = cause.facts.get("available"), cause.facts.get("needed")
    if free is None or float(free) < 2:
        return None
    because = f"{wanted} GiB are wanted and {free} GiB are free"
    return _Advice(
        "serve.env.VLLM_CPU_KVCACHE_SPACE", because, set=str(max(1, int(float(free) / 2)))
    )


def _spread(cause: Cause, manifest: Manifest) -> _Advice | None:
    now = manifest.release.serve.tensor_parallel
    needed = cause.facts.get("needed")
    because = f"the server lacked {needed}" if needed else "the memory of so many is too small"
    return _Advice("serve.tensor_parallel", f"{because}, on {now} device(s)", set=2 * now)


def _name(cause: Cause, _manifest: Manifest) -> _Advice | None:
    served = re.findall(r"'([^']{1,120})'", cause.facts.get("served", ""))
    if len(served) != 1:
        return None
    return _Advice("serve.served_name", f"the server serves {served[0]!r}", set=served[0])


def _profile(cause: Cause, manifest: Manifest) -> _Advice | None:
    missing = cause.facts.get("file")
    for text in manifest.release.serve.devices:
        if missing and text.partition(":")[0] == missing:
            return _Advice("serve.devices", f"this host has no {missing}")
    return None


def _dtype(cause: Cause, _manifest: Manifest) -> _Advice | None:
    supported = cause.facts.get("supported")
    if supported is None:
        return None
    return _Advice("serve.args.dtype", "the quantization asks for another one", set=supported)


_RULES: dict[str, Callable[[Cause, Manifest], _Advice | None]] = {
    "shm-too-small": _shm,
    "bus-error": _shm,
    "out-of-memory": _memory,
    "kv-cache-too-small": _length,
    "context-too-long": _length,
    "heads-not-divisible": _heads,
    "port-taken": _port,
    "unknown-option": _option,
    "invalid-option-value": _option,
    "device-out-of-memory": _spread,
    "device-memory-taken": _utilization,
    "no-kv-cache": _utilization,
    "kv-cache-too-large": _kv_space,
    "wrong-served-name": _name,
    "missing-device": _profile,
    "too-many-open-files": _named("serve.ulimits.nofile", 1 << 20, "the server needed more"),
    "device-before-fork": _named(
        "serve.env.VLLM_WORKER_MULTIPROC_METHOD", "spawn", "workers must not be forked"
    ),
    "dtype-unsupported": _named("serve.args.dtype", "float16", "the device does not know bfloat16"),
    "quantization-dtype": _dtype,
    "remote-code-needed": _named(
        "serve.args.trust-remote-code", True, "once the code among the weights was read and trusted"
    ),
    "no-compiler": _named("serve.args.enforce-eager", True, "the image cannot compile kernels"),
    "no-python-headers": _named(
        "serve.args.enforce-eager", True, "the image cannot compile kernels"
    ),
}


def _names(field: str) -> tuple[str, ...]:
    """The keys of a dotted field; a path is one key."""
    return tuple(re.findall(r"/[^.]*(?:\.[^.]*)*?(?=\.size_bytes$)|[^./][^.]*", field))


def _bytes(text: str | None) -> int | None:
    number, _, unit = (text or "").partition(" ")
    return int(float(number) * _UNITS[unit]) if unit in _UNITS else None


def _power_of_two(at_least: int) -> int:
    return 1 << (at_least - 1).bit_length()


def _scalar(value: Any) -> str:
    """As it stands in YAML."""
    if isinstance(value, (Mapping, list, tuple)):
        plain = list(value) if not isinstance(value, Mapping) else dict(value)
        return yaml.safe_dump(plain, default_flow_style=True, width=1000).strip()
    return yaml.safe_dump(value).partition("\n")[0]


__all__ = ["Manifest", "advised"]
