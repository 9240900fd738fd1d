"""What nobody is known to tell of a device, as far as a release on it is concerned."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.manifest.device import Device


def told_at_once(device: Device) -> Iterator[str]:
    """Lines about unknown facts: those that the release needs, then those that may matter."""
    stack = f"stacks/{device.default_stack}/"
    of_others = tuple(f"stacks/{name}/" for name in device.stacks if f"stacks/{name}/" != stack)
    unknown = [path for path in device.unknown if not path.startswith(of_others)]
    needed = [
        path
        for path in unknown
        if path in ("architecture", "launch_profiles", f"{stack}python")
        or path.startswith(f"{stack}base")
    ]
    file = f"manifests/devices/{device.name}.yaml"
    if needed:
        yield (
            f"note: nobody is known to tell {', '.join(needed)} of {device.name}, and the release "
            f"needs it: nothing is built before it stands in {file}"
        )
    if others := [path for path in unknown if path not in needed]:
        yield f"note: also unknown of {device.name}: {', '.join(others)}"
