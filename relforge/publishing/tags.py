"""The tags that a release gets in a registry, made of what its record says about the image.

Two, neither of which ever moves: a long one, which says what is in the image in the words that
FlagRelease uses, and a short one to type. Both end in the digest's first 12 digits, so that two
images never want the same tag, and the same image always wants the same ones (docs/publishing.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from relforge.manifest.common import UNKNOWN
from relforge.oci.reference import require_tag

MOST = 128
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")
_SAYS_NOTHING = ("", "none", "any", "generic", UNKNOWN)
_DROPPED_FIRST = ("driver", "sdk", "torch", "gems")


def release_tags(record: Mapping[str, Any]) -> tuple[str, str]:
    """The long tag and the short one. Raises KeyError for a record without image or release."""
    digest = str(record["image_digest"]).removeprefix("sha256:")[:12]
    parts = dict(_parts(record))
    for name in (*_DROPPED_FIRST, "vendor", "arc"):
        if len(_joined(parts, digest)) <= MOST:
            break
        parts.pop(name, None)
    long = _joined(parts, digest)
    if len(long) > MOST:
        long = f"{long[: MOST - 13].rstrip('-_.')}-{digest}"
    name = _fit(record["release"])[: MOST - 13].rstrip("-_.") or "release"
    short = f"{name}-{digest}"
    return require_tag(long), require_tag(short)


def candidate_tag(digest: str) -> str:
    """That of an image which waits; it keeps a registry from collecting it as garbage."""
    return f"candidate-{digest.removeprefix('sha256:')[:12]}"


def _joined(parts: Mapping[str, str], digest: str) -> str:
    plain = ("vendor", "date")
    return "-".join(
        [*(value if name in plain else f"{name}_{value}" for name, value in parts.items()), digest]
    )


def _parts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    build = (record.get("results") or {}).get("build") or {}
    names = record.get("names") or {}
    device = _device(record)
    stack = _stack(record, device)
    packages = {_canonical(name): v for name, v in (build.get("python_packages") or {}).items()}
    vendor = names.get("vendor") or (device.get("vendor") or {}).get("name")
    created = str(build.get("created") or record.get("created") or "")
    sdk = stack.get("sdk")
    rows = (
        ("vendor", vendor),
        ("model", names.get("model") or record["release"]),
        ("gems", packages.get("flag_gems")),
        ("torch", packages.get("torch") or _pinned(stack.get("torch"))),
        ("sdk", _short_sdk(sdk)),
        ("driver", stack.get("driver")),
        ("arc", _architectures(build) or device.get("architecture")),
        ("date", re.sub(r"\D", "", created)[:8]),
    )
    for name, value in rows:
        text = _fit(value).lower()
        if text.casefold() not in _SAYS_NOTHING:
            yield name, text


def _architectures(build: Mapping[str, Any]) -> str:
    """Of an image for several: all of them, the one it was tested on first."""
    listed = [str(one["platform"]).rpartition("/")[2] for one in build.get("platforms") or ()]
    return "_".join(listed or [str(build.get("architecture") or "")])


def _device(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The device's manifest, as the stage that describes the image was given it."""
    inputs = record.get("inputs") or {}
    for stage in ("card", "smoke", "evaluate", "bench"):
        found = ((inputs.get(stage) or {}).get("values") or {}).get("device")
        if isinstance(found, Mapping):
            return found
    return {}


def _stack(record: Mapping[str, Any], device: Mapping[str, Any]) -> Mapping[str, Any]:
    values = ((record.get("inputs") or {}).get("card") or {}).get("values") or {}
    named = (values.get("release") or {}).get("stack") or device.get("default_stack")
    found = (device.get("stacks") or {}).get(named)
    return found if isinstance(found, Mapping) else {}


def _pinned(requirements: Any) -> str | None:
    """The version of the first of the device's pinned packages, ``torch==2.7.1+corex.4.4.0``."""
    if not isinstance(requirements, list) or not requirements:
        return None
    _, pinned, version = str(requirements[0]).partition("==")
    return version if pinned else None


def _short_sdk(named: Any) -> str | None:
    """First word and version of what the device's manifest names first: ``Corex Runtime 4.4.0`` is
    ``corex4.4.0``. The driver has a part of its own."""
    parts = [str(one) for one in named] if isinstance(named, list) else []
    text = next((one for one in parts if "driver" not in one.lower()), None)
    if text is None:
        return None
    first, *rest = text.split()
    return first + next((word for word in rest if re.search(r"\d", word)), "")


def _fit(value: object) -> str:
    """With nothing but what a tag may hold: ``2.7.1+corex.4.4.0`` is ``2.7.1_corex.4.4.0``."""
    return _UNFIT.sub("_", "" if value is None else str(value)).strip("_.-")


def _canonical(name: str) -> str:
    return name.replace("-", "_").casefold()
