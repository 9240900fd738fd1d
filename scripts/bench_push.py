#!/usr/bin/env python3
"""How long it takes to push an image to a registry, the first time and again.

    ./scripts/bench_push.py FOLDER [--runs N] [--key PUB]

FOLDER is a published release; PUB the public key of its signer, which the policy may want. Against
Debian's docker-registry on loopback, with an empty store for each first push. skopeo's copy of the
same layout is taken in turn with ours. Then `relforge publish --folder` and `relforge promote
--folder` are run again with nothing changed, as a user types them; what `relforge --version` takes
is start-up, and goes off. The figures to hold: 1 s each, without a byte sent.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relforge.engine.layout import describe

ALLOWED_AGAIN_S = 1.0
_PUSH = """
import json, sys, time
from pathlib import Path
from relforge.manifest.site import Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
import requests, tenacity
host, layout, digest, uploads = sys.argv[1:]
began_s = time.perf_counter()
dst = RegistryStore(Repository.parse(f"{host}/bench/image"), site=Site(), uploads=Path(uploads))
report = copy(LayoutStore(Path(layout)), dst, digest, tag="v1")
seconds = time.perf_counter() - began_s
print(json.dumps({"s": seconds, "sent": dst.sent_bytes, "nothing": report.nothing}))
"""
_AGAIN = ("publish", "promote")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--key", type=Path, help="public key (PEM) of who signed it")
    asked = parser.parse_args()
    layout = asked.folder / "image"
    facts = describe(layout)
    size = sum(facts.blobs.values())
    first: list[float] = []
    others: list[float] = []
    start_up: list[float] = []
    again: dict[str, list[float]] = {verb: [] for verb in _AGAIN}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        named = _named_for_skopeo(layout, work / "named")
        for number in range(asked.runs):
            with _registry(work / f"ours-{number}") as host:
                pushed = _push(host, layout, facts.digest, work)
                assert pushed["sent"] >= size
                first.append(float(pushed["s"]))
                _site(work / "site.yaml", host, work / "home", asked.key)
                for verb in _AGAIN:
                    _relforge(work, verb, "--folder", str(asked.folder), "--target", "hub")
                for _ in range(3):
                    start_up.append(_relforge(work, "--version")[0])
                    for verb in _AGAIN:
                        again[verb].append(_nothing(work, verb, asked.folder))
            if shutil.which("skopeo"):
                with _registry(work / f"theirs-{number}") as host:
                    others.append(_skopeo(host, named))
    print(f"{facts.digest}: {size / 1e6:.0f} MB in {len(facts.blobs)} pieces")
    _row("first push", first, size)
    if others:
        _row("skopeo copy", others, size)
    begun_s = statistics.median(start_up)
    _row("start-up", start_up, None)
    missed = []
    for verb, times_s in again.items():
        _row(f"{verb} again", [seconds - begun_s for seconds in times_s], 0)
        if statistics.median(times_s) - begun_s > ALLOWED_AGAIN_S:
            missed.append(verb)
    for verb in missed:
        print(f"missed: {verb} again takes more than {ALLOWED_AGAIN_S:.0f} s after start-up")
    return int(bool(missed))


def _site(path: Path, host: str, home: Path, key: Path | None) -> None:
    target = {
        "kind": "registry",
        "release": f"{host}/release/{{model}}",
        "candidate": f"{host}/waiting/{{model}}",
        "mutable_tags": ["latest"],
    }
    trusted = [{"name": "maker", "public_key": str(key.absolute())}] if key else []
    site = {
        "kind": "site",
        "home": str(home),
        "publish": {"targets": {"hub": target}},
        "trusted_keys": trusted,
    }
    path.write_text(json.dumps(site))


def _relforge(work: Path, *words: str) -> tuple[float, str]:
    """The seconds that a command took, and what it printed."""
    program = "from relforge.cli import main; main()"
    argv = [sys.executable, "-c", program, *words]
    environment = {**os.environ, "RELFORGE_SITE": str(work / "site.yaml")}
    # An installed relforge has its bytecode; a checkout keeps it after the first run.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began_s = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - began_s
    if done.returncode != 0:
        sys.exit(f"relforge {' '.join(words)} failed:\n{done.stderr}")
    return seconds, done.stdout


def _nothing(work: Path, verb: str, folder: Path) -> float:
    """The seconds of a command that finds everything as it should be."""
    seconds, out = _relforge(work, verb, "--folder", str(folder), "--target", "hub", "--json")
    outcomes = [one for release in json.loads(out)["releases"] for one in release["outcomes"]]
    assert outcomes
    for one in outcomes:
        assert one["state"] == "nothing", one
        assert one["delivery"]["sent_bytes"] == 0, one
    return seconds


def _row(what: str, times_s: list[float], size: int | None) -> None:
    median = statistics.median(times_s)
    speed = "" if size is None else ", 0 bytes sent"
    if size:
        speed = f", {size / median / 1e6:.0f} MB/s"
    spread = f"{min(times_s):.2f} to {max(times_s):.2f}"
    print(f"{what:<13} {median:6.2f} s (median of {len(times_s)}, {spread}){speed}")


def _push(host: str, layout: Path, digest: str, work: Path) -> dict[str, float]:
    argv = [sys.executable, "-c", _PUSH, host, str(layout), digest, str(work / "uploads")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _skopeo(host: str, layout: Path) -> float:
    argv = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false",
            f"oci:{layout}:bench", f"docker://{host}/bench/image:v1"]  # fmt: skip
    began_s = time.perf_counter()
    subprocess.run(argv, check=True)
    return time.perf_counter() - began_s


def _named_for_skopeo(layout: Path, target: Path) -> Path:
    """The same blobs under a name that skopeo takes, without a copy of them."""
    target.mkdir()
    (target / "blobs").symlink_to((layout / "blobs").absolute())
    shutil.copy(layout / "oci-layout", target)
    index = json.loads((layout / "index.json").read_bytes())
    entry = index["manifests"][0]
    entry["annotations"] = {"org.opencontainers.image.ref.name": "bench"}
    (target / "index.json").write_text(json.dumps({**index, "manifests": [entry]}))
    return target


@contextmanager
def _registry(work: Path) -> Iterator[str]:
    """An empty registry; what it stored is removed."""
    work.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(work / "data")}},
        "http": {"addr": host},
    }
    (work / "config.yml").write_text(json.dumps(config))
    server = subprocess.Popen(
        ["docker-registry", "serve", str(work / "config.yml")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        address, _, port = host.partition(":")
        while socket.socket().connect_ex((address, int(port))) != 0:
            assert time.monotonic() < deadline, "docker-registry does not start"
            time.sleep(0.05)
        yield host
    finally:
        server.kill()
        server.wait(10)
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
