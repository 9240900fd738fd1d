"""Containers on a real engine: what starts, what fails, and that nothing is left behind.

The image is an empty root file system of a few KB; the host's /usr is mounted into it, so that
Python and everything it needs is there without a registry.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from relforge.cancel import CancelToken
from relforge.engine.client import connect
from relforge.engine.containers import (
    LABEL_OWNER,
    LABEL_RUN,
    ContainerSpec,
    Mount,
    PublishedPort,
    running,
    sweep,
)
from relforge.errors import Cancelled, ExitCode, RelforgeError
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.smoke import Smoke
from relforge.serving.expected import Expected
from relforge.serving.model import LaunchSpec
from relforge.serving.probes import PROBES
from relforge.serving.reference import GreedyText
from relforge.serving.report import SmokeReport
from relforge.serving.smoke import NotReady, run_smoke, serve_context
from relforge.serving.spec import Node, docker_argv
from tests.fakes.openai_server import CONTEXT, VERSION
from tests.support.faults import FAKE_TRAITS

if TYPE_CHECKING:
    from docker import DockerClient

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "fakes" / "openai_server.py"
REFERENCE = (GreedyText(prompt="48+76=", max_tokens=8, text="124", finish_reason="stop"),)
PORT = 8000


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerClient]:
    client = connect()
    yield client
    client.close()


def empty_root() -> bytes:
    """An archive with empty folders and the links of a merged-/usr system."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for folder in ("usr", "tmp", "etc", "models", "app"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for link in ("bin", "lib", "lib64", "sbin"):
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{link}"
            tar.addfile(entry)
    return raw.getvalue()


@pytest.fixture(scope="module")
def image(engine: DockerClient) -> Iterator[str]:
    """The id of an image with empty folders."""
    name = f"relforge-test-{uuid.uuid4().hex[:12]}"
    engine.api.import_image_from_data(empty_root(), repository=name, tag="1")
    yield str(engine.images.get(f"{name}:1").id)
    engine.images.remove(f"{name}:1", force=True)


@pytest.fixture
def run_id() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def _nothing_is_left(engine: DockerClient, run_id: str) -> Iterator[None]:
    yield
    assert left(engine, run_id) == [], "a container survived"


def left(engine: DockerClient, run_id: str) -> list[str]:
    found = engine.api.containers(all=True, filters={"label": f"{LABEL_RUN}={run_id}"})
    return [entry["Names"][0].lstrip("/") for entry in found]


def node(image: str, run_id: str, *argv: str, **changes: Any) -> Node:
    fields: dict[str, Any] = {
        "name": f"relforge-{run_id}",
        "image": image,
        "argv": argv,
        "mounts": (
            Mount(host=Path("/usr"), container="/usr"),
            Mount(host=FAKE, container="/app/server.py"),
        ),
        "ports": (PublishedPort(container=PORT),),
        "port": PORT,
    }
    return Node(**{**fields, **changes})


def fake(image: str, run_id: str, *options: str, **changes: Any) -> LaunchSpec:
    argv = ("/usr/bin/python3", "-u", "/app/server.py", "--port", str(PORT), *options)
    spec = launch(node(image, run_id, *argv, **changes))
    return spec.model_copy(update={"traits": FAKE_TRAITS})


def launch(*nodes: Node) -> LaunchSpec:
    return LaunchSpec(
        release="test",
        served_name="tiny",
        health_path="/health",
        ready_timeout_s=60,
        nodes=nodes,
    )


def smoke(
    spec: LaunchSpec, engine: DockerClient, run_id: str, tmp_path: Path, **more: Any
) -> SmokeReport:
    return run_smoke(
        spec,
        engine,
        reference=REFERENCE,
        run_id=run_id,
        log_path=tmp_path / "server.log",
        **{"cancel": CancelToken(), "settings": Smoke(request_timeout_s=5), **more},
    )


def test_a_clean_server_passes(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    lines: list[str] = []
    started = time.monotonic()
    report = smoke(fake(image, run_id), engine, run_id, tmp_path, on_line=lines.append)
    took_s = time.monotonic() - started
    assert report.verdict == "pass", report.reason
    not_run = {probe.name: probe.reason for probe in report.probes if probe.verdict != "pass"}
    assert not_run == {
        "flaggems": "the release does not say that FlagGems is used",
        "device": "no container of ours: its device is not known",
    }
    assert (report.server_version, report.max_model_len) == (VERSION, CONTEXT)
    assert report.state.exit_code == 0
    assert report.overhead_s is not None
    assert report.image_id == image
    assert report.start_to_ready_s is not None
    assert report.first_token_ms is not None
    assert report.first_token_ms > 0
    assert report.tokens_per_s is not None
    assert report.tokens_per_s > 0
    assert report.memory_peak_bytes is None or report.memory_peak_bytes > 1_000_000
    assert f"listening on {PORT}" in lines
    assert report.server_log.read_text().splitlines() == lines
    assert took_s < report.start_to_ready_s + sum(probe.seconds for probe in report.probes) + 3


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("ignores-sigterm", "still runs 1 s after SIGTERM"),
        ("sigterm-exits-1", "ended with exit status 1"),
    ],
)
def test_a_server_that_does_not_end_well_fails(
    fault: str, says: str, engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    spec = fake(image, run_id, "--fault", fault)
    settings = Smoke(request_timeout_s=5, stop_timeout_s=1)
    report = smoke(spec, engine, run_id, tmp_path, settings=settings)
    assert [probe.name for probe in report.probes if probe.verdict == "fail"] == ["graceful-stop"]
    assert says in report.reason


IXSMI_STAND_IN = """#!/bin/sh
# The memory in use is that of two devices, and rises while the server runs.
used=257
if grep -qsae '[-]-hold' /proc/[0-9]*/cmdline; then used=$1; fi
printf '| 0%%   30C   P0    40W / 250W   | %sMiB / 32768MiB | 0%% |\\n' "$used" "$used"
"""


@pytest.mark.parametrize(
    ("serving_mib", "held", "verdict", "says"),
    [
        ("29000", "/dev/iluvatar0", "pass", "holds /dev/iluvatar0"),
        ("259", "/dev/iluvatar0", "fail", "on 0 of the 2 accelerators"),
        ("29000", "/dev/null", "fail", "no process of the container has /dev/iluvatar0 open"),
    ],
)
def test_the_device_of_a_container_is_looked_at(
    serving_mib: str,
    held: str,
    verdict: str,
    says: str,
    engine: DockerClient,
    image: str,
    run_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a stand-in for the vendor's query program; the container and its files are real."""
    program = tmp_path / "bin" / "ixsmi"
    program.parent.mkdir()
    program.write_text(IXSMI_STAND_IN.replace("$1", serving_mib))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    spec = fake(image, run_id, "--hold", held, devices=("/dev/zero:/dev/iluvatar0",))
    device = Project((builtin_root(),)).device("bi_V150")
    report = smoke(
        spec, engine, run_id, tmp_path, expected=Expected(device, accelerators_per_node=2)
    )
    found = {probe.name: probe for probe in report.probes}["device"]
    assert found.verdict == verdict, found.reason
    assert says in found.reason
    assert [sample.when for sample in report.device] == ["before", "serving", "after"]
    assert report.verdict == verdict


def test_labels_name_owner_and_run(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    spec = node(image, run_id, "/usr/bin/sleep", "60")
    with running(engine, spec, run_id=run_id, release="r", log_path=tmp_path / "l") as container:
        labels = container.inspect()["Config"]["Labels"]
        boot, pid, ticks = labels[LABEL_OWNER].split(":")
        assert int(pid) == os.getpid()
        assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert ticks.isdigit()
        assert labels["org.relforge.release"] == "r"
        assert container.name in left(engine, run_id)
        assert sweep(engine) == (), "the container of a living owner was swept"
        assert container.state().running
        assert container.host_port(PORT) not in (None, PORT)


def test_a_command_beside_the_server_gives_both_its_outputs_and_how_it_ended(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    spec = node(image, run_id, "/usr/bin/sleep", "60")
    with running(engine, spec, run_id=run_id, release="r", log_path=tmp_path / "l") as container:
        script = 'echo "$WHO" && echo no >&2 && exit 3'
        done = container.run_beside(("/bin/sh", "-c", script), {"WHO": "me"})
        assert done == (3, b"me\n", b"no\n")
        assert container.run_beside(("no-such-program",)).code in (126, 127)
        spins = ("/bin/sh", "-c", "n=0; while [ $n -lt 300000 ]; do n=$((n+1)); done")
        before_s, started = container.cpu_s(), time.monotonic()
        assert container.run_beside(spins).code == 0
        after_s = container.cpu_s()
        assert before_s is not None
        assert after_s is not None
        used_s = after_s - before_s
        assert 0.02 < used_s < 2 * (time.monotonic() - started) + 1


def test_a_command_ends_with_the_server_beside_it(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    spec = node(image, run_id, "/usr/bin/sleep", "60")
    with running(engine, spec, run_id=run_id, release="r", log_path=tmp_path / "l") as container:
        killer = threading.Timer(0.5, container.kill)
        killer.start()
        started = time.monotonic()
        assert container.run_beside(("/usr/bin/sleep", "30")).code == 137
        assert time.monotonic() - started < 10
        killer.join()
        assert not container.state().running
        assert container.run_beside(("/bin/true",)).code == 137, "it is gone, and that is said"
    assert container.cpu_s() is None


def test_a_server_that_dies_at_start_fails_within_two_seconds_of_its_death(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    line = "AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'"
    spec = fake(
        image, run_id, "--fault", "dies-at-start", "--start-s", "1", "--log-line", line,
        "--exit-code", "3",
    )  # fmt: skip
    died: list[float] = []

    def note_death() -> None:
        events = engine.api.events(
            filters={"label": f"{LABEL_RUN}={run_id}", "event": "die"}, decode=True
        )
        died.append(next(events)["timeNano"] / 1e9)
        events.close()

    watcher = threading.Thread(target=note_death, daemon=True)
    watcher.start()
    report = smoke(spec, engine, run_id, tmp_path)
    reported = time.time()
    watcher.join(10)
    assert reported - died[0] < 2
    assert report.verdict == "fail"
    assert "ended with exit status 3 before it was ready" in report.reason
    assert report.cause is not None
    assert report.cause.id == "missing-cpu-kernels"
    assert report.cause.evidence == line
    assert report.state.exit_code == 3
    assert line in report.server_log.read_text()
    assert [p.verdict for p in report.probes].count("not-run") == len(PROBES) - 2


def test_a_server_that_its_first_request_kills(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    spec = fake(image, run_id, "--fault", "dies-on-first-request")
    report = smoke(spec, engine, run_id, tmp_path)
    assert report.verdict == "fail"
    assert report.reason.startswith("completion: the first request killed the server")
    assert "the engine died of a request" in report.reason
    assert report.start_to_ready_s is not None


@pytest.mark.parametrize("by", ["socket", "container"])
def test_a_port_in_use(
    by: str, engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        if by == "socket":
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
        else:
            other = node(image, run_id, "/usr/bin/sleep", "60", name=f"relforge-{run_id}-other")
            held = stack.enter_context(
                running(engine, other, run_id=run_id, release="r", log_path=tmp_path / "o")
            )
            port = held.host_port(PORT)
        spec = fake(image, run_id, ports=(PublishedPort(container=PORT, host=port),))
        with pytest.raises(RelforgeError, match=f"port 127.0.0.1:{port} is in use") as caught:
            smoke(spec, engine, run_id, tmp_path)
        assert caught.value.code == ExitCode.ENVIRONMENT


def test_what_the_engine_cannot_start(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    report = smoke(launch(node(image, run_id, "no-such-program")), engine, run_id, tmp_path)
    assert report.verdict == "fail"
    assert report.cause is not None
    assert report.cause.id == "exec-not-found"
    assert "no-such-program" in report.cause.evidence
    for changes, says in (
        ({"image": "sha256:" + "0" * 64}, "the engine has no image"),
        ({"mounts": (Mount(host=tmp_path / "absent", container="/m"),)}, "path to mount"),
        ({"devices": ("/dev/no-such-device",)}, "could not start the container"),
    ):
        broken = fake(image, run_id).nodes[0].model_copy(update=changes)
        with pytest.raises(RelforgeError, match=says) as caught:
            smoke(launch(broken), engine, run_id, tmp_path)
        assert caught.value.code == ExitCode.ENVIRONMENT
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("program", "changes", "cause_id"),
    [
        ("x = bytearray(1 << 30)", {"memory_bytes": 64 << 20}, "out-of-memory"),
        (
            "from multiprocessing.shared_memory import SharedMemory as S\n"
            "s = S(create=True, size=4 << 20)\ns.buf[:] = bytes(4 << 20)",
            {"shm_bytes": 1 << 20},
            "bus-error",
        ),
        ("open('/models/tiny/config.json')", {}, "weights-missing"),
        (
            "import socket\na, b = socket.socket(), socket.socket()\n"
            "a.bind(('', 8000)); a.listen(); b.bind(('', 8000))",
            {},
            "port-taken",
        ),
    ],
)
def test_causes_that_are_produced_for_real(
    program: str,
    changes: dict[str, Any],
    cause_id: str,
    engine: DockerClient,
    image: str,
    run_id: str,
    tmp_path: Path,
) -> None:
    spec = launch(node(image, run_id, "/usr/bin/python3", "-c", program, **changes))
    report = smoke(spec, engine, run_id, tmp_path)
    assert report.verdict == "fail"
    assert report.cause is not None, report.reason + report.server_log.read_text()
    assert report.cause.id == cause_id


def test_nothing_survives_an_exception_inside(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    def use() -> None:
        with serve_context(
            fake(image, run_id),
            engine,
            run_id=run_id,
            log_path=tmp_path / "log",
            cancel=CancelToken(),
        ) as served:
            assert served.client.completion("1+1=", max_tokens=4).text == "2"
            assert left(engine, run_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert left(engine, run_id) == []


def test_serve_context_refuses_a_dead_server(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    spec = fake(image, run_id, "--fault", "dies-at-start")
    with (
        pytest.raises(NotReady) as caught,
        serve_context(spec, engine, run_id=run_id, log_path=tmp_path / "log", cancel=CancelToken()),
    ):
        pytest.fail("the block ran without a server")
    assert caught.value.code == ExitCode.GATE
    assert caught.value.log == str(tmp_path / "log")


@pytest.mark.parametrize("fault", ["never-ready", "hangs"])
def test_cancel_ends_waiting_and_requests_at_once(
    fault: str, engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    cancel = CancelToken()
    marker = {"never-ready": "GET /health", "hangs": "POST /v1/completions"}[fault]
    cancelled_at: list[float] = []

    def on_line(line: str) -> None:
        if marker in line or (fault == "hangs" and "GET /v1/models" in line):
            cancelled_at.append(time.monotonic())
            threading.Timer(0.5, cancel.cancel, ("the test",)).start()

    with pytest.raises(Cancelled):
        run_smoke(
            fake(image, run_id, "--fault", fault),
            engine,
            reference=REFERENCE,
            settings=Smoke(request_timeout_s=50),
            run_id=run_id,
            log_path=tmp_path / "log",
            cancel=cancel,
            on_line=on_line,
        )
    assert time.monotonic() - cancelled_at[0] < 5


OWNER_PROGRAM = """
import signal, sys, time
# A shell that runs this in the background has SIGINT ignored; Python would keep that.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from relforge.engine.client import connect
from relforge.engine.containers import ContainerSpec, running
spec = ContainerSpec.model_validate_json(sys.argv[1])
client = connect()
with running(client, spec, run_id=sys.argv[2], release="r", log_path=Path(sys.argv[3])):
    print("up", flush=True)
    time.sleep(120)
"""


@contextlib.contextmanager
def owner_process(image: str, run_id: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    whole = node(image, run_id, "/usr/bin/sleep", "120").model_dump(
        mode="json", include=set(ContainerSpec.model_fields)
    )
    child = subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, json.dumps(whole), run_id, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_sweep_removes_what_kill_9_left(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    with owner_process(image, run_id, tmp_path) as child:
        assert f"relforge-{run_id}" not in sweep(engine)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert left(engine, run_id) == [f"relforge-{run_id}"]
        assert f"relforge-{run_id}" in sweep(engine)


def test_the_same_command_after_kill_9_just_works(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    with owner_process(image, run_id, tmp_path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert smoke(fake(image, run_id), engine, run_id, tmp_path).verdict == "pass"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_survives_a_signal(
    number: signal.Signals, engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    with owner_process(image, run_id, tmp_path) as child:
        child.send_signal(number)
        status = child.wait(20)
    assert status == (-signal.SIGINT if number is signal.SIGINT else 128 + signal.SIGTERM)
    assert left(engine, run_id) == []


def test_a_second_run_of_the_same_name_is_told_so(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    with owner_process(image, run_id, tmp_path):
        with pytest.raises(RelforgeError, match="exists already") as caught:
            smoke(fake(image, run_id), engine, run_id, tmp_path)
        assert caught.value.code == ExitCode.ENVIRONMENT
        assert left(engine, run_id) == [f"relforge-{run_id}"], "a stranger's container was removed"
    sweep(engine)


def test_the_command_we_show_does_what_we_do(
    engine: DockerClient, image: str, run_id: str, tmp_path: Path
) -> None:
    shown = node(
        image,
        run_id,
        "/usr/bin/sleep",
        "9",
        env={"A": "b c"},
        shm_bytes=2 << 20,
        memory_bytes=64 << 20,
        devices=("/dev/null:/dev/zero2:r",),
        group_add=("44",),
        user="0",
        name=f"relforge-{run_id}-ours",
    )
    with running(engine, shown, run_id=run_id, release="r", log_path=tmp_path / "l") as container:
        ours = container.inspect()
    theirs_node = shown.model_copy(update={"name": f"relforge-{run_id}-shown"})
    argv = list(docker_argv(theirs_node))
    assert argv[:3] == ["docker", "run", "--rm"]
    argv[1:3] = ["create", "--label", f"{LABEL_RUN}={run_id}"]
    made = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    try:
        theirs = engine.api.inspect_container(made)
    finally:
        engine.api.remove_container(made, force=True)
    assert facts(ours) == facts(theirs)


def facts(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a container is, without defaults that mean the same (null, empty list)."""
    host, config = found["HostConfig"], found["Config"]
    mounts = sorted((m["Source"], m["Destination"], m["RW"]) for m in found["Mounts"])
    bindings = {
        port: [(entry["HostIp"], entry["HostPort"] or "0") for entry in entries]
        for port, entries in host["PortBindings"].items()
    }
    return {
        "image": found["Image"],
        "argv": [*config["Entrypoint"], *config["Cmd"]],
        "env": sorted(config["Env"]),
        "user": config["User"],
        "mounts": mounts,
        "ports": bindings,
        **{key: host[key] or None for key in ("ShmSize", "Memory", "Devices", "GroupAdd")},
        **{key: host[key] or None for key in ("Privileged", "Runtime", "CapAdd", "SecurityOpt")},
    }


def test_the_log_is_redacted(engine: DockerClient, image: str, run_id: str, tmp_path: Path) -> None:
    from relforge import redact

    secret = f"hush-{datetime.datetime.now(tz=datetime.timezone.utc).timestamp()}"
    redact.register(secret)
    spec = fake(image, run_id, "--fault", "dies-at-start", "--log-line", f"token {secret} read")
    report = smoke(spec, engine, run_id, tmp_path)
    assert secret not in report.server_log.read_text()
    assert "token [redacted] read" in report.server_log.read_text()
