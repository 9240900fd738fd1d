"""What a reader pastes from a card starts exactly what `relforge serve` starts, in real bash."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relforge.card.parts.variables import quoted
from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.hosts import HostNode
from relforge.serving.commands import docker_argv
from relforge.serving.spec import launch_spec
from tests.support.cards import PROJECT, card_data

DOCKER = """#!/bin/sh
case $1 in
  run) printf '%s\\0' "$@" >>"$RECORD"; printf '\\1' >>"$RECORD" ;;
  load) echo "Loaded image: example.org/asked/for:1" ;;
  buildx) echo sha256:0000000000000000000000000000000000000000000000000000000000000000 ;;
esac
"""
DIGEST = "sha256:" + "0" * 64


def started(release: str, folder: Path) -> list[list[str]]:
    """The argv of each `docker run` that the card's blocks make, with the stand-in for docker."""
    program = folder / "docker"
    program.write_text(DOCKER)
    program.chmod(0o755)
    steps = card_data(release).steps
    codes = [code for step in steps for code in step.codes]
    kept = ("weights", "load", "pull", "settings", "start", "alternative")
    # Downloads are left out: what comes after them is what a reader's shell has then.
    text = "\n".join(
        re.sub(r"^(hf|modelscope) .*$", "", code.text, flags=re.M)
        for code in codes
        if code.step in kept
    )
    record = folder / "record"
    record.write_bytes(b"")
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "RECORD": str(record)}
    subprocess.run(
        ["bash", "-euo", "pipefail"], input=text, text=True, check=True, env=env, cwd=folder,
        timeout=60, capture_output=True,
    )  # fmt: skip
    calls = record.read_bytes().decode().split("\1")[:-1]
    return [["docker", *call.split("\0")[:-1]] for call in calls]


def wanted(name: str, folder: Path) -> list[tuple[str, ...]]:
    """What the launch itself is, on the hosts that the card takes for examples."""
    release = PROJECT.release(name)
    builds = release.build.image is None
    device = PROJECT.device(release.device).for_release(release.stack, builds=builds)
    (start,) = [s for s in card_data(name).steps if s.title == "Start it"]
    purposes = set(re.findall(r"^NICS_(\w+)=", "\n".join(c.text for c in start.codes), re.M))
    hosts = tuple(
        HostNode(
            name=f"node{rank}", address=f"192.0.2.{10 + rank}", interface="eth0",
            interfaces={p.lower(): ("eth1", "eth2", "eth3", "eth4") for p in purposes},
        )
        for rank in range(release.serve.nodes)
    )  # fmt: skip
    image = re.search(r" (relforge/\S+:[0-9a-f]{12})", start.codes[-1].text)
    given_image = release.build.image
    if image is not None:
        reference = image[1]
    elif given_image is not None and given_image.on_request is not None:
        reference = "example.org/asked/for:1"
    else:
        assert given_image is not None
        assert given_image.registry is not None
        assert given_image.registry.digest == UNRESOLVED
        reference = given_image.registry.reference.rpartition(":")[0] + f"@{DIGEST}"
    weights = release.model
    kind = PROJECT.model(weights).weights
    spec = launch_spec(
        release, device, image=reference, name=release.name, hosts=hosts,
        weights=folder / (kind.path if kind.kind == "local" else "weights"),
        host_port=release.serve.port,
        mounts={m.name: folder / m.name for m in release.serve.mounts if m.host is None},
    )  # fmt: skip
    return [docker_argv(node) for node in spec.nodes]


@pytest.mark.parametrize("release", sorted(PROJECT.release_files))
def test_the_blocks_of_a_card_start_the_launch_itself(release: str, tmp_path: Path) -> None:
    calls = started(release, tmp_path)
    nodes = wanted(release, tmp_path)
    assert calls[: len(nodes)] == [list(argv) for argv in nodes]
    for other in calls[len(nodes) :]:
        assert other != calls[0], "an alternative that is none"
        server = "--entrypoint"
        assert other[other.index(server) :] == calls[0][calls[0].index(server) :]


@given(
    parts=st.lists(st.text(st.characters(exclude_characters="\0\r", codec="utf-8")), max_size=4),
    tail=st.sampled_from(["", "x", "_1", ":80", "$HOME", '"', "`id`", "\\"]),
)
def test_a_word_reaches_the_program_as_it_is_whatever_is_in_it(parts: list[str], tail: str) -> None:
    word = "{W}".join(parts) + tail
    text = quoted(word, {"{W}": "WEIGHTS"})
    done = subprocess.run(
        ["bash", "-c", f"printf %s {text}"], capture_output=True, check=True, timeout=20,
        env={"WEIGHTS": "/a b/$c", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert done.stdout.decode() == word.replace("{W}", "/a b/$c")
