"""A network of its own on this machine, joined to it by one cable that can be cut.

It is a network namespace that dies with the test, and its interfaces with it. Needs root, iproute2
and util-linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from relforge import proc

_NEAR = 9
"""Addresses on this end of the cable: a node of a cluster each."""


@dataclass(frozen=True)
class FarNetwork:
    """``address`` is the one inside; ``near(1)``, ``near(2)``, ... are this host's end."""

    pid: int
    prefix: str

    @property
    def address(self) -> str:
        return f"{self.prefix}.100"

    def near(self, number: int) -> str:
        assert 1 <= number <= _NEAR
        return f"{self.prefix}.{number}"

    def inside(self, *words: str) -> tuple[str, ...]:
        """A command in that network."""
        return ("nsenter", "--net", "--target", str(self.pid), "--", *words)

    def cut(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        _run(*self.inside("ip", "link", "set", "eth0", "down"))

    def mend(self) -> None:
        _run(*self.inside("ip", "link", "set", "eth0", "up"))


@contextmanager
def far_network() -> Iterator[FarNetwork]:
    for program in ("ip", "nsenter", "unshare"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is needed (scripts/test brings it), and root to use it")
    # As its addresses, its end of the cable is named after this process.
    own = f"rf{os.getpid()}"
    argv = [*proc.dying_with_us(), "unshare", "--net", "sh", "-c", "echo in; exec sleep infinity"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"in\n", "root is needed"
            found = FarNetwork(
                holder.pid, f"10.{128 + os.getpid() % 100}.{os.getpid() // 100 % 256}"
            )
            _run("ip", "link", "add", own, "type", "veth", "peer", "name", "eth0",
                 "netns", str(holder.pid))  # fmt: skip
            for number in range(1, _NEAR + 1):
                _run("ip", "address", "add", f"{found.near(number)}/24", "dev", own)
            _run("ip", "link", "set", own, "up")
            for words in (
                ("link", "set", "lo", "up"),
                ("address", "add", f"{found.address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
            ):
                _run(*found.inside("ip", *words))
            yield found
        finally:
            holder.kill()


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
