"""Two Docker hosts: real vLLM with a data-parallel rank on each, and a release of two nodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from relforge.serving.reference import GreedyText, read_greedy_texts
from tests.e2e.conftest import CHECKOUT, QUICKSTART_SITE, SAID, Hello, command, relforge
from tests.support.docker_hosts import Host, docker_hosts

pytestmark = pytest.mark.skipif(
    "RELFORGE_LONG" not in os.environ, reason="minutes: RELFORGE_LONG=1"
)
RELEASE = "tiny-adder-cpu_x86-dp2"
TEXTS = read_greedy_texts(CHECKOUT / "examples" / "tiny-adder" / "reference.json")


@pytest.fixture(scope="module")
def image(record: dict[str, Any]) -> str:
    """The image of the release that quickstart made: the two differ in how they are served."""
    name: str = record["results"]["build"]["image_name"]
    return name


@pytest.fixture(scope="module")
def hosts(image: str) -> Iterator[tuple[Host, ...]]:
    with docker_hosts(image=image) as found:
        yield found


SHARED = """\
  nodes: 2
  data_parallel: 2
  network: host
  port: 8000
"""
# The first node is the server, the second one is only there.
ROLES = """[sh, -c, 'if [ "$0" = 0 ]; then exec "$@"; fi; exec sleep 600', "{rank}", python3, -m"""


@pytest.fixture
def shared(hello: Hello) -> Hello:
    """The hello release, made one of two nodes."""
    manifest = hello.project / "manifests" / "releases" / "hello-cpu_x86.yaml"
    text = manifest.read_text()
    assert text.count("[python3, -m") == 1
    manifest.write_text(text.replace("  port: 8000\n", SHARED).replace("[python3, -m", ROLES))
    return hello


def test_without_hosts_it_is_said_before_anything_runs(shared: Hello, tmp_path: Path) -> None:
    done = shared.run("release", site=shared.other_site(tmp_path / "none.yaml"))
    assert done.code == 3
    said = " ".join(done.stderr.split())
    assert "hello-cpu_x86 is served by 2 nodes, and the site names none" in said
    assert "nodes: {hello-cpu_x86: hosts.yaml}" in said
    assert "> smoke" not in done.stderr


def test_a_host_that_does_not_answer_is_named_before_anything_runs(
    shared: Hello, tmp_path: Path
) -> None:
    nodes = [
        {"name": "near", "address": "127.0.0.1"},
        {"name": "far", "address": "127.0.0.2", "context": "tcp://127.0.0.2:9"},
    ]
    (tmp_path / "hosts.yaml").write_text(json.dumps({"kind": "nodes", "nodes": nodes}))
    names = {"hello-cpu_x86": str(tmp_path / "hosts.yaml")}
    done = shared.run("release", site=shared.other_site(tmp_path / "far.yaml", nodes=names))
    assert done.code == 3
    assert "far: the container engine does not answer at tcp://127.0.0.2:9" in " ".join(
        done.stderr.split()
    )
    assert "> smoke" not in done.stderr


@pytest.mark.timeout(900)
def test_two_hosts_share_the_ranks_of_one_server(
    hosts: tuple[Host, ...], image: str, tmp_path: Path
) -> None:
    first = hosts[0]
    words = (
        *("serve", "--release", RELEASE, "--site", QUICKSTART_SITE),
        *("--nodes", nodes_file(hosts, tmp_path), "--image", image),
    )
    log = tmp_path / "log"
    with log.open("wb") as lines:
        serve = subprocess.Popen(
            command(*words), stdout=subprocess.PIPE, stderr=lines, text=True, cwd=CHECKOUT
        )
    try:
        assert serve.stdout is not None
        url = serve.stdout.readline().strip()
        assert url == f"http://{first.address}:8000/v1", log.read_text()
        assert [len(host.containers()) for host in hosts] == [1, 1]
        for text in TEXTS:
            assert answer(url, text) == text.text
        served = requests_by_engine(url)
        assert served["0"] > 0
        assert served["1"] > 0, "the second host answered nothing"
        assert sum(served.values()) == len(TEXTS)
        stopped = relforge(*words, "--stop")
        assert stopped.stderr.count(f"removed relforge-{RELEASE}") == 2
        assert serve.wait(60) == 0, log.read_text()
    finally:
        if serve.poll() is None:
            serve.terminate()
        serve.communicate(timeout=60)
    said = log.read_text()
    assert "the nodes reach each other: 4 paths asked" in said
    # Which rank ran where, in vLLM's own words.
    assert ranks(said, "first") == {"0"}
    assert ranks(said, "second") == {"1"}
    head = f"headless mode, with head node address tcp://{first.address}:29550"
    assert re.search(rf"^second \| .*{re.escape(head)}", said, re.MULTILINE)
    assert [host.containers() for host in hosts] == [[], []]


@pytest.mark.timeout(600)
def test_a_release_of_two_nodes_is_tested_on_the_sites_hosts(
    shared: Hello, hosts: tuple[Host, ...], tmp_path: Path
) -> None:
    site = shared.other_site(
        tmp_path / "lends.yaml", nodes={"cpu_x86": str(nodes_file(hosts, tmp_path))}
    )
    done = shared.run("release", "--json", site=site)
    assert done.code == 0, done.stderr
    assert done.json["verdicts"] == {"smoke": "pass", "evaluate": "pass", **SAID}
    logs = shared.home / "runs" / done.json["run"] / "hello-cpu_x86/logs"
    smoke = (logs / "smoke.log").read_text()
    assert smoke.count("loaded relforge/hello-cpu_x86:") == 2, "each engine got the image"
    assert "the nodes reach each other" in smoke
    for log in ("server-smoke.log", "server-smoke-second.log", "server-evaluate-second.log"):
        assert (logs / log).is_file()
    assert [host.containers() for host in hosts] == [[], []]


def nodes_file(hosts: tuple[Host, ...], folder: Path) -> Path:
    """One host is reached by its socket, the other through its network."""
    first, second = hosts
    nodes = [
        {"name": host.name, "address": host.address, "interface": host.interface, "context": place}
        for host, place in ((first, first.socket), (second, second.tcp))
    ]
    path = folder / "hosts.yaml"
    path.write_text(json.dumps({"kind": "nodes", "nodes": nodes}))
    return path


def answer(url: str, text: GreedyText) -> str:
    asked = {"prompt": text.prompt, "max_tokens": text.max_tokens, "temperature": 0}
    got = requests.post(f"{url}/completions", json={"model": "tiny-adder", **asked}, timeout=60)
    got.raise_for_status()
    said: str = got.json()["choices"][0]["text"]
    return said


def requests_by_engine(url: str) -> Counter[str]:
    """Requests that each rank finished, as the server's metrics say once all are counted."""
    metric = r'^vllm:request_success_total\{engine="(\d+)",.*\} ([\d.e+]+)$'
    deadline = time.monotonic() + 30
    while True:
        text = requests.get(url.removesuffix("/v1") + "/metrics", timeout=60).text
        found: Counter[str] = Counter()
        for engine, count in re.findall(metric, text, re.MULTILINE):
            found[engine] += int(float(count))
        if sum(found.values()) >= len(TEXTS) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def ranks(log: str, host: str) -> set[str]:
    return set(re.findall(rf"^{host} \| .*\(EngineCore_DP(\d+) ", log, re.MULTILINE))
