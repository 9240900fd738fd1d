"""The tiny release: one commit everywhere, parts built apart, a server that answers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge.cancel import CancelToken
from relforge.engine.containers import ContainerState
from relforge.manifest.smoke import Smoke
from relforge.serving.client import OpenAIClient, ServerFault
from relforge.serving.probes import PROBES, Target, run_probes
from relforge.serving.reference import read_greedy_texts
from relforge.serving.wait import wait_ready

HELLO = Path(__file__).parents[2] / "examples" / "hello"
MODEL = HELLO / "model"
REFERENCE = HELLO / "reference.json"
SOURCE = HELLO / "src"
CAN_COMPILE = "RELFORGE_ALL_TESTS" in os.environ or bool(
    shutil.which("g++")
    and importlib.util.find_spec("setuptools")
    and (Path(sysconfig.get_path("include")) / "Python.h").is_file()
)


def make_repo(folder: Path, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(HELLO / "make_repo.py"), str(folder)],
        capture_output=True,
        text=True,
        umask=umask,
        check=False,
        env={**os.environ, "GIT_AUTHOR_NAME": "somebody", "TZ": "Asia/Tokyo"},
    )


def test_the_commit_is_the_same_everywhere(tmp_path: Path) -> None:
    first = make_repo(tmp_path / "a")
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.strip()) == 40
    assert make_repo(tmp_path / "b", umask=0o077).stdout == first.stdout
    assert make_repo(tmp_path / "a").stdout == first.stdout, "the second time it does nothing"
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "--quiet", f"file://{tmp_path}/a", str(clone)],
        check=True,
        capture_output=True,
    )
    assert (clone / "csrc" / "_adder.cpp").read_bytes() == (
        SOURCE / "csrc" / "_adder.cpp"
    ).read_bytes()


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    refused = make_repo(tmp_path)
    assert refused.returncode == 2
    assert "is not empty" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_model_questions_and_reference_are_what_their_script_writes(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(HELLO / "make_model.py"), str(tmp_path)],
        check=True,
        capture_output=True,
    )
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 4
    for path in written:
        assert (tmp_path / path).read_bytes() == (HELLO / path).read_bytes(), path
    reference = json.loads(REFERENCE.read_text())
    asked = (HELLO / "heldout.jsonl").read_bytes()
    assert reference["settings"]["questions_sha256"] == hashlib.sha256(asked).hexdigest()
    assert reference["result"]["n"] == len(asked.splitlines()) == 500
    assert 0.85 < reference["result"]["accuracy"] < 0.99


class Program:
    """A server process of the test, seen the way probes see a container."""

    def __init__(self, argv: list[str], log: Path, packages: Path) -> None:
        self.log_path = log
        self.exited = threading.Event()
        with log.open("wb") as out:
            self.child = subprocess.Popen(
                argv, stderr=out, stdout=out, env={**os.environ, "PYTHONPATH": str(packages)}
            )
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()

    def _wait(self) -> None:
        self.child.wait()
        self.exited.set()

    def state(self) -> ContainerState:
        if self.exited.is_set():
            return ContainerState(status="exited", exit_code=self.child.returncode)
        return ContainerState(status="running")

    def log_text(self) -> str:
        return self.log_path.read_text()

    def stop(self) -> int:
        self.child.terminate()
        self._waiter.join(10)
        return self.child.returncode


def build(out: Path) -> Path:
    """Compiles from setup.py and csrc/ alone; returns the library."""
    tree = out.parent / f"{out.name}-tree"
    shutil.copytree(SOURCE / "csrc", tree / "csrc")
    shutil.copy(SOURCE / "setup.py", tree)
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext"],
        cwd=tree,
        env={**os.environ, "OUT": str(out)},
        check=True,
        capture_output=True,
    )
    assert sorted(path.name for path in tree.iterdir()) == ["csrc", "setup.py"]
    (library,) = (out / "hello_server").iterdir()
    return library


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like site-packages: the compiled library beside the Python files."""
    folder = tmp_path_factory.mktemp("hello") / "site"
    library = build(folder)
    assert library.name.startswith("_adder.cpython-")
    shutil.copytree(SOURCE / "hello_server", folder / "hello_server", dirs_exist_ok=True)
    return folder


@pytest.fixture
def server(packages: Path, tmp_path: Path) -> Iterator[OpenAIClient]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "hello_server", "--model", str(MODEL), "--port", str(port)]
    program = Program(argv, tmp_path / "log", packages)
    with OpenAIClient(f"http://127.0.0.1:{port}", "hello", timeout_s=10) as client:
        try:
            wait_ready(program, client, health_path="/health", timeout_s=20, cancel=CancelToken())
            yield client
        finally:
            status = program.stop()
    assert status == 0, "it does not end politely"


compiled = pytest.mark.skipif(not CAN_COMPILE, reason="needs g++, setuptools and Python's headers")


@compiled
def test_the_library_is_the_same_bytes_wherever_it_is_built(packages: Path, tmp_path: Path) -> None:
    (known,) = (packages / "hello_server").glob("*.so")
    assert build(tmp_path / "elsewhere" / "deeper").read_bytes() == known.read_bytes()


@compiled
def test_it_passes_every_probe_with_its_reference(server: OpenAIClient) -> None:
    reference = read_greedy_texts(REFERENCE)
    results = run_probes(Target(server, None, Smoke(), reference), PROBES)
    verdicts = {result.name: result.verdict for result in results}
    assert [name for name, verdict in verdicts.items() if verdict == "not-run"] == [
        "container-alive",
        "version",  # nobody told which kind of server it is
        "logprobs",
        "cancelled",
        "flaggems",
        "graceful-stop",
        "device",
    ]
    assert "fail" not in verdicts.values(), results


@compiled
def test_what_it_gets_wrong_is_what_its_table_says(server: OpenAIClient) -> None:
    wrong = json.loads((MODEL / "table.json").read_text())["wrong"]
    question, answer = next(iter(wrong.items()))
    assert server.completion(question, max_tokens=8).text == answer
    assert server.completion("999999999+1=", max_tokens=16).text == "1000000000"
    cut = server.completion("48+76=", max_tokens=2)
    assert (cut.text, cut.finish_reason) == ("12", "length")
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 2
    assert server.completion("48+76=", max_tokens=8, stop=["4"]).text == "12"


@compiled
def test_what_it_refuses(server: OpenAIClient) -> None:
    for extra, status, says in (
        ({"model": "other"}, 404, "does not exist"),
        ({"prompt": []}, 400, "prompt must be"),
        ({"n": 2}, 400, "n other than 1"),
        ({"max_tokens": 0}, 400, "positive"),
        ({"prompt": "1" * 300}, 400, "maximum context length is 256"),
    ):
        with pytest.raises(ServerFault, match=says) as caught:
            server._whole("POST", "/v1/completions", {"model": "hello", "prompt": "1+1=", **extra})
        assert caught.value.status == status


@compiled
def test_a_missing_model_folder_ends_it_with_the_reason(packages: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "hello_server", "--model", str(tmp_path / "no"), "--port", "1"]
    program = Program(argv, tmp_path / "log", packages)
    assert program.exited.wait(10)
    assert program.child.returncode == 1
    assert "No such file or directory" in program.log_text()
