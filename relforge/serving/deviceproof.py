"""Proof that the accelerator did the work: its memory before, while and after, and who holds it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from relforge.devicequery import Asked, memory_used
from relforge.events import Verdict
from relforge.manifest.common import UNKNOWN
from relforge.manifest.device import Device
from relforge.manifest.facts import DeviceQuery
from relforge.serving.report import DeviceSample, When
from relforge.ui.text import size

LEAST_RISE_BYTES = 64 << 20
"""On each accelerator: a context of the driver alone takes more, noise of a query less."""
_OTHER_FIND = re.compile(rb"unknown predicate|unrecognized")
_NVIDIA = ("/dev/nvidia[0-9]",)


class Inside(Protocol):
    """A container in which commands can be run."""

    def execute(self, argv: Sequence[str]) -> tuple[int, bytes]: ...


class DeviceProof:
    """Gathers samples of one host, and judges them.

    ``nodes`` are the device files that the container was given (``host[:container[:rwm]]``),
    ``ask`` runs the query program; ``absent`` says why nothing can be looked at.
    """

    def __init__(
        self,
        device: Device,
        *,
        per_node: int,
        nodes: Sequence[str],
        ask: Callable[[], Asked],
        absent: str | None = None,
    ) -> None:
        self._per_node = max(1, per_node)
        self._nodes = tuple((*node.split(":"), "")[1] or node.split(":")[0] for node in nodes)
        if not self._nodes and "nvidia" in device.vendor.name.lower():
            self._nodes = _NVIDIA
        self._ask = ask
        self._query = device.device_query
        self._absent = "no accelerator" if not device.accelerator else absent
        self.samples: list[DeviceSample] = []
        self._holders: str | None = None
        self._held = False

    def sample(self, when: When, inside: Inside | None = None) -> None:
        """Asks the query program, and in the container who has its device files open.

        What cannot be had is told by ``judged``; nothing is raised for it.
        """
        if self._absent is not None:
            return
        if not isinstance(self._query, DeviceQuery) or self._query.memory_used == UNKNOWN:
            self._absent = "no source tells how the memory in use is read from the query program"
            return
        asked = self._ask()
        if asked.output is None:
            self._absent = asked.problem.found if asked.problem else "the query says nothing"
            return
        try:
            used = tuple(memory_used(self._query, asked.output))
        except (re.error, ValueError, IndexError) as error:
            self._absent = f"the patterns of device_query cannot be used: {error}"
            return
        self.samples.append(DeviceSample(when=when, output=asked.output, used_bytes=used))
        if when == "serving" and inside is not None and self._nodes:
            self._look_for_holders(inside)

    def _look_for_holders(self, inside: Inside) -> None:
        names = [word for node in self._nodes for word in ("-o", "-lname", f"{node}*")][1:]
        where = ("find", "/proc", "-maxdepth", "3", "-path", "/proc/[0-9]*/fd/*")
        code, said = inside.execute((*where, "(", *names, ")", "-printf", "%p %l\\n"))
        lines = [
            line.split()
            for line in said.decode("utf-8", "replace").splitlines()
            if re.fullmatch(r"/proc/\d+/fd/\d+ /dev/\S+", line)
        ]
        if code not in (0, 1) or _OTHER_FIND.search(said):
            return  # no find in the image, or none that knows these options
        if not lines and b"Permission denied" in said:
            return  # the server may be another user's process
        self._held = bool(lines)
        holders = sorted({(int(path.split("/")[2]), file) for path, file in lines})
        self._holders = ", ".join(f"process {pid} holds {file}" for pid, file in holders[:4])

    def judged(self) -> tuple[Verdict, str]:
        """The verdict and its reason, once all samples are there."""
        if self._absent is not None:
            return "not-run", self._absent
        by_time = {sample.when: sample for sample in self.samples}
        before, serving = by_time.get("before"), by_time.get("serving")
        if before is None or serving is None:
            return "not-run", "the devices were not looked at before and while it served"
        rises = _rises(before, serving)
        risen = sum(rise >= LEAST_RISE_BYTES for rise in rises)
        said = "memory in use rose by " + (", ".join(_signed(rise) for rise in rises) or "nothing")
        if len(before.used_bytes) != len(serving.used_bytes) or not rises:
            return "fail", (
                f"{len(before.used_bytes)} devices were listed before, {len(serving.used_bytes)} "
                "while it served"
            )
        if risen < self._per_node:
            return "fail", (
                f"{said}: on {risen} of the {self._per_node} accelerators that the release takes "
                f"by {size(LEAST_RISE_BYTES)} or more; the work is done elsewhere"
            )
        if self._holders is not None and not self._held:
            return "fail", f"{said}, but no process of the container has {self._nodes[0]} open"
        after = by_time.get("after")
        if after is not None and len(after.used_bytes) == len(before.used_bytes):
            kept = sum(max(0, rise) for rise in _rises(before, after))
            said += f", and {size(kept)} is kept after the end"
        return "pass", said + (f"; {self._holders}" if self._holders else "")


def _rises(before: DeviceSample, later: DeviceSample) -> list[int]:
    pairs = zip(before.used_bytes, later.used_bytes, strict=False)
    return [now - then for then, now in pairs]


def _signed(value: int) -> str:
    return size(value) if value >= 0 else f"-{size(-value)}"
