"""A launch on two Docker hosts: reached in every way, asked before the start, gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from relforge.cancel import CancelToken
from relforge.engine.client import connect
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite
from relforge.manifest.smoke import Smoke
from relforge.serving.model import LaunchSpec
from relforge.serving.reach import check_reach
from relforge.serving.report import SmokeReport
from relforge.serving.smoke import run_smoke
from relforge.serving.start import RUN_PREFIX, serving, stop
from tests.engine.test_containers import FAKE, PORT, REFERENCE, ROOT, empty_root, launch, node
from tests.engine.test_serving_start import MODEL
from tests.support.docker_hosts import Host, docker_hosts
from tests.support.ssh_server import SshServer, ssh_server

IMAGE = "relforge-test-empty:1"
MEETING = 29550
WAYS = ("unix", "tcp", "ssh")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, ...]]:
    with docker_hosts() as found:
        for host in found:
            client = connect(EngineSite(host=host.socket))
            client.api.import_image_from_data(
                empty_root(), repository="relforge-test-empty", tag="1"
            )
            client.close()
        yield found


@pytest.fixture(scope="module")
def servers(
    hosts: tuple[Host, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SshServer, ...]]:
    folders = [tmp_path_factory.mktemp(host.name) for host in hosts]
    with ssh_server(hosts[0], folders[0]) as first, ssh_server(hosts[1], folders[1]) as second:
        # One client that knows both.
        for own, other in ((folders[0], folders[1]), (folders[1], folders[0])):
            with (own / "config").open("a") as config:
                config.write(f"IdentityFile {other / 'key'}\n")
                config.write(f"GlobalKnownHostsFile {other / 'known_hosts'}\n")
        yield first, second


@pytest.fixture(autouse=True)
def _nothing_is_left(hosts: tuple[Host, ...]) -> Iterator[None]:
    yield
    assert [host.containers() for host in hosts] == [[], []], "a container survived"


@pytest.fixture
def name() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


def contexts(
    way: str, hosts: tuple[Host, ...], request: pytest.FixtureRequest, patch: pytest.MonkeyPatch
) -> list[str]:
    if way == "ssh":
        servers: tuple[SshServer, ...] = request.getfixturevalue("servers")
        patch.setenv("PATH", servers[0].path)
        return [server.context for server in servers]
    return [host.tcp if way == "tcp" else host.socket for host in hosts]


def two(hosts: tuple[Host, ...], name: str, where: list[str]) -> LaunchSpec:
    """A server on the first host, and one on the second that only waits."""
    both = {"ports": (), "network": "host"}
    argv = ("/usr/bin/python3", "-u", "/app/server.py", "--port", str(PORT))
    nodes = [
        node(
            IMAGE,
            name,
            *words,
            **both,
            host=host.name,
            address=host.address,
            context=context,
            rendezvous_port=MEETING if host is hosts[0] else None,
        )
        for host, context, words in zip(hosts, where, (argv, ("/usr/bin/sleep", "60")), strict=True)
    ]
    return launch(*nodes).model_copy(update={"release": name})


def options(name: str, tmp_path: Path) -> dict[str, Any]:
    return {"run_id": RUN_PREFIX + name, "logs": tmp_path / "logs", "cancel": CancelToken()}


def closed(spec: LaunchSpec, name: str, tmp_path: Path) -> RelforgeError:
    started = time.monotonic()
    with pytest.raises(RelforgeError) as caught:
        check_reach(spec, EngineSite(), **options(name, tmp_path))
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert time.monotonic() - started < 20
    return caught.value


def rows(error: RelforgeError) -> list[str]:
    return (error.why or "").splitlines()


def first_of(spec: LaunchSpec, **changes: Any) -> LaunchSpec:
    first, *others = spec.nodes
    return spec.model_copy(update={"nodes": (first.model_copy(update=changes), *others)})


@pytest.mark.parametrize("way", WAYS)
def test_two_hosts_serve(
    hosts: tuple[Host, ...],
    name: str,
    way: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = contexts(way, hosts, request, monkeypatch)
    spec = two(hosts, name, where)
    reach = check_reach(spec, EngineSite(), **options(name, tmp_path))
    # Two ports of the first, one of the second, and the first's server from here.
    assert reach.paths == 4
    lines: list[tuple[str, str]] = []
    with serving(
        spec, EngineSite(), **options(name, tmp_path), on_line=lambda *line: lines.append(line)
    ) as found:
        assert found.base_url == f"http://{hosts[0].address}:{PORT}"
        with urllib.request.urlopen(f"{found.base_url}/v1/models", timeout=10) as answer:
            assert json.load(answer)["data"][0]["id"] == "tiny"
        assert [host.containers() for host in hosts] == [[spec.nodes[0].name]] * 2
        assert ("first", f"listening on {PORT}") in lines
        assert stop(name, where, EngineSite()) == (spec.nodes[0].name,) * 2
        assert found.nodes.wait(CancelToken()).state.status == "gone"


def test_a_cut_cable_is_found_from_both_sides(
    hosts: tuple[Host, ...], name: str, tmp_path: Path
) -> None:
    spec = two(hosts, name, [host.socket for host in hosts])
    with hosts[1].unplugged():
        error = closed(spec, name, tmp_path)
    assert error.what == (
        f"the nodes of {name} do not reach each other: first to second, second to first"
    )
    first, second = hosts
    said = rows(error)
    assert len(said) == 3
    assert said[0].startswith(f"first cannot reach second at {second.address} port ")
    assert said[1].startswith(f"second cannot reach first at {first.address} port ")
    assert f"second cannot reach first at {first.address} port {MEETING} (where" in said[2]
    assert error.hint is not None
    assert "firewalls" in error.hint
    # And it is asked anew: the cable is in again.
    check_reach(spec, EngineSite(), **options(name, tmp_path))


def test_one_closed_port_is_named(hosts: tuple[Host, ...], name: str, tmp_path: Path) -> None:
    first, second = hosts
    with forbidden(second, MEETING):
        error = closed(two(hosts, name, [host.socket for host in hosts]), name, tmp_path)
    assert rows(error) == [
        f"second cannot reach first at {first.address} port {MEETING} (where the ranks meet): "
        "Permission denied"
    ]


@contextmanager
def forbidden(host: Host, port: int) -> Iterator[None]:
    """Within the block nothing on the host may connect to that port anywhere."""
    rule = ("priority", "7", "ipproto", "tcp", "dport", str(port), "prohibit")
    subprocess.run(host.inside("ip", "rule", "add", *rule), check=True)
    try:
        yield
    finally:
        subprocess.run(host.inside("ip", "rule", "del", *rule), check=True)


def test_a_port_that_is_taken_is_named(hosts: tuple[Host, ...], name: str, tmp_path: Path) -> None:
    first = hosts[0]
    code = (
        "import socket; "
        f"s = socket.create_server(('{first.address}', {MEETING})); print('up', flush=True); "
        "s.accept()"
    )
    words = first.inside(sys.executable, "-c", code)
    with subprocess.Popen(words, stdout=subprocess.PIPE) as taker:
        assert taker.stdout is not None
        assert taker.stdout.readline() == b"up\n"
        error = closed(two(hosts, name, [host.socket for host in hosts]), name, tmp_path)
        taker.kill()
    assert rows(error) == [
        f"first cannot listen at {first.address} port {MEETING} (where the ranks meet): "
        "Address already in use"
    ]


def test_an_address_that_is_another_hosts_is_named(
    hosts: tuple[Host, ...], name: str, tmp_path: Path
) -> None:
    spec = two(hosts, name, [host.socket for host in hosts])
    wrong = first_of(spec, address=hosts[1].address, context=hosts[0].socket)
    error = closed(wrong, name, tmp_path)
    said = "\n".join(rows(error))
    assert f"first cannot listen at {hosts[1].address} port {MEETING}" in said
    assert "Cannot assign requested address" in said


def test_what_else_a_host_lacks_is_found_at_the_same_time(
    hosts: tuple[Host, ...], name: str, tmp_path: Path
) -> None:
    spec = two(hosts, name, [host.socket for host in hosts])
    first, second = spec.nodes
    missing = spec.model_copy(
        update={"nodes": (first, second.model_copy(update={"image": "relforge-test-none:1"}))}
    )
    error = closed(missing, name, tmp_path)
    assert error.what == "the engine has no image relforge-test-none:1"
    assert error.where is not None
    assert error.where.startswith("node second, ")
    assert error.hint == (
        f"docker save relforge-test-none:1 | docker --host {hosts[1].socket} load"
    )
    unmounted = spec.model_copy(
        update={
            "nodes": (first, second.model_copy(update={"mounts": node("", "", mounts=(
                first.mounts[0].model_copy(update={"host": Path("/no/such/folder")}),
            )).mounts}))
        }
    )  # fmt: skip
    assert "a path to mount does not exist" in closed(unmounted, name, tmp_path).what


def test_an_image_without_python_is_not_asked(
    hosts: tuple[Host, ...], name: str, tmp_path: Path
) -> None:
    spec = two(hosts, name, [host.socket for host in hosts])
    bare = spec.model_copy(
        update={"nodes": tuple(n.model_copy(update={"mounts": ()}) for n in spec.nodes)}
    )
    reach = check_reach(bare, EngineSite(), **options(name, tmp_path))
    assert reach.shown() == (
        "whether the nodes reach each other was not asked: the image has no python3"
    )


def test_hosts_without_addresses_are_not_asked(
    hosts: tuple[Host, ...], name: str, tmp_path: Path
) -> None:
    spec = first_of(two(hosts, name, [host.socket for host in hosts]), address=None)
    reach = check_reach(spec, EngineSite(), **options(name, tmp_path))
    assert reach.not_run == "the nodes file gives no address of first"


def smoke(spec: LaunchSpec, hosts: tuple[Host, ...], name: str, tmp_path: Path) -> SmokeReport:
    client = connect(EngineSite(host=hosts[0].socket))
    try:
        return run_smoke(
            spec,
            client,
            reference=REFERENCE,
            settings=Smoke(request_timeout_s=5),
            run_id=f"smoke-{name}",
            log_path=tmp_path / "server.log",
            cancel=CancelToken(),
        )
    finally:
        client.close()


def test_smoke_starts_and_ends_all_nodes(
    hosts: tuple[Host, ...], name: str, tmp_path: Path
) -> None:
    spec = two(hosts, name, [host.socket for host in hosts])
    report = smoke(spec, hosts, name, tmp_path)
    assert report.verdict == "pass", report.reason
    assert (tmp_path / "server-second.log").is_file()


def test_smoke_fails_with_a_further_node(
    hosts: tuple[Host, ...], name: str, tmp_path: Path
) -> None:
    spec = two(hosts, name, [host.socket for host in hosts])
    first, second = spec.nodes
    never = first.model_copy(update={"argv": (*first.argv, "--fault", "never-ready")})
    dying = second.model_copy(update={"argv": ("/bin/sh", "-c", "sleep 1; echo enough; exit 7")})
    started = time.monotonic()
    report = smoke(spec.model_copy(update={"nodes": (never, dying)}), hosts, name, tmp_path)
    assert time.monotonic() - started < 30, "it ends with the node, not with the time limit"
    assert report.verdict == "fail"
    assert "ended with exit status 7 before it was ready" in report.reason
    assert (tmp_path / "server-second.log").read_text() == "enough\n"


def test_what_ssh_says_is_told(
    servers: tuple[SshServer, ...],
    hosts: tuple[Host, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", servers[0].path)
    with ssh_server(hosts[0], tmp_path, programs="/nowhere", port=2223) as bare:
        with pytest.raises(RelforgeError, match="does not answer") as caught:
            connect(EngineSite(host=bare.context))
        assert "Host key verification failed" in str(caught.value.why)
        assert caught.value.code == ExitCode.ENVIRONMENT
        monkeypatch.setenv("PATH", bare.path)
        with pytest.raises(RelforgeError) as caught:
            connect(EngineSite(host=bare.context))
        assert "docker: not found" in str(caught.value.why)
        assert caught.value.hint == (
            "make this work first: ssh -T -o BatchMode=yes -o ConnectTimeout=10 -l root -p 2223 "
            f"-- {hosts[0].address} 'docker version'"
        )


RELEASE = """\
kind: release
name: fake-cpu_x86-two
model: fake
device: cpu_x86
variant: two
engine: command
title: A stand-in server on two hosts
build: {}
serve:
  served_name: tiny
  network: host
  nodes: 2
  data_parallel: 2
  port: 8000
  command:
    - /bin/sh
    - -c
    - 'if [ "$0" = 0 ]; then exec python3 -u /app/server.py --port 8000; fi; exec sleep 600'
    - "{rank}"
  mounts:
    - {name: usr, host: /usr, container: /usr}
    - {name: server, container: /app/server.py}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("manifests/models", "manifests/releases", "weights"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "manifests/models/fake.yaml").write_text(MODEL)
    (tmp_path / "manifests/releases/fake-cpu_x86-two.yaml").write_text(RELEASE)
    (tmp_path / "site.yaml").write_text("kind: site\nhome: home\n")
    return tmp_path


def words(project: Path, hosts: tuple[Host, ...], where: list[str]) -> list[str]:
    nodes = [
        {"name": host.name, "address": host.address, "interface": host.interface, "context": place}
        for host, place in zip(hosts, where, strict=True)
    ]
    (project / "hosts.yaml").write_text(json.dumps({"kind": "nodes", "nodes": nodes}))
    code = "from relforge.cli import main; main()"
    return [
        *(sys.executable, "-c", code, "serve", "--release", "fake-cpu_x86-two"),
        *("--project", str(project), "--site", str(project / "site.yaml")),
        *("--image", IMAGE, "--mount", f"server={FAKE}", "--nodes", str(project / "hosts.yaml")),
    ]


def environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_command_says_which_nodes_are_apart_before_it_starts_them(
    hosts: tuple[Host, ...], project: Path
) -> None:
    command = words(project, hosts, [host.socket for host in hosts])
    with hosts[1].unplugged():
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), timeout=60
        )
    assert done.returncode == ExitCode.ENVIRONMENT, done.stderr
    assert f"second cannot reach first at {hosts[0].address} port " in done.stderr
    assert "first cannot reach second" in done.stderr
    assert "listening on" not in done.stderr, "the servers were started"


@pytest.mark.parametrize("way", ["unix", "ssh"])
def test_the_command_serves_on_two_hosts_until_ctrl_c(
    hosts: tuple[Host, ...],
    project: Path,
    way: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = words(project, hosts, contexts(way, hosts, request, monkeypatch))
    serve = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        start_new_session=True,
    )  # fmt: skip
    try:
        assert serve.stdout is not None
        url = serve.stdout.readline().strip()
        assert url == f"http://{hosts[0].address}:8000/v1", serve.communicate()[1]
        # What a terminal does: the whole group gets it, and with it any ssh that is in it.
        os.killpg(serve.pid, signal.SIGINT)
        _, err = serve.communicate(timeout=60)
    finally:
        if serve.poll() is None:
            serve.kill()
            serve.wait(30)
    assert serve.returncode == ExitCode.INTERRUPTED, err
    assert "the nodes reach each other: 3 paths asked" in err


def test_nothing_of_ssh_is_left(
    servers: tuple[SshServer, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", servers[0].path)
    before = sockets()
    code = (
        "import os, sys; from relforge.engine.client import connect; "
        "from relforge.manifest.site import EngineSite; "
        f"client = connect(EngineSite(host={servers[0].context!r})); client.ping(); "
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment())
    assert done.returncode == -signal.SIGKILL
    assert len(sockets() - before) == 1
    deadline = time.monotonic() + 10
    while ssh_clients(servers[0].config):
        assert time.monotonic() < deadline, "ssh outlives the relforge that was killed"
        time.sleep(0.1)
    connect(EngineSite(host=servers[0].context)).close()
    assert sockets() <= before, "the next start removes what was left, and its own"


def sockets() -> set[Path]:
    import tempfile

    return set(Path(tempfile.gettempdir()).glob("relforge-ssh-*"))


def ssh_clients(config: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(config) in text:
            found.append(text)
    return found
