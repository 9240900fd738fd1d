"""An engine that does not answer, and telling owners of containers apart: no engine needed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relforge import owner
from relforge.engine.client import connect, engine_host
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite


def test_no_engine_is_one_clear_error(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/no.sock"
    with pytest.raises(RelforgeError, match="does not answer") as caught:
        connect(EngineSite(host=host))
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert caught.value.where == host
    assert "scripts/engine up" in (caught.value.hint or "")


def test_an_engine_that_is_silent_costs_under_three_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(RelforgeError) as caught:
            connect(EngineSite(host=f"tcp://127.0.0.1:{silent.getsockname()[1]}"))
        assert time.monotonic() - started < 3
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_an_address_that_is_none() -> None:
    with pytest.raises(RelforgeError) as caught:
        connect(EngineSite(host="carrier-pigeon://x"))
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_where_the_engine_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///from/environment")
    assert engine_host(EngineSite(host="unix:///from/site")) == "unix:///from/site"
    assert engine_host(EngineSite()) == "unix:///from/environment"
    monkeypatch.delenv("DOCKER_HOST")
    assert engine_host() == "unix:///var/run/docker.sock"


def test_this_process_is_alive_and_its_label_reads_back() -> None:
    me = owner.current()
    assert me.pid == os.getpid()
    assert me.of_this_boot
    assert me.alive
    assert owner.Owner.parse(me.text) == me


def test_a_reused_process_id_is_another_owner() -> None:
    me = owner.current()
    assert not owner.Owner(me.boot_id, me.pid, me.start_ticks - 1).alive
    assert not owner.Owner("another-boot", me.pid, me.start_ticks).of_this_boot


def test_an_ended_process_is_gone_even_as_a_zombie() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = owner.start_ticks(child.pid)
    assert ticks is not None
    them = owner.Owner(owner.boot_id(), child.pid, ticks)
    assert them.alive
    child.kill()
    deadline = time.monotonic() + 5
    while them.alive and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not them.alive, "a killed child that nobody waited for counts as running"
    assert child.stdin is not None
    child.stdin.close()
    child.wait()
    assert not them.alive


@pytest.mark.parametrize("text", ["", "a:b", "boot:x:1", "boot:1:", "a:1:2:3"])
def test_labels_that_are_none_of_ours(text: str) -> None:
    assert owner.Owner.parse(text) is None
