"""A release that real FlagScale serves: built, probed, evaluated, stopped, and failed.

Runs where two variables are set. ``RELFORGE_FLAGSCALE_PROJECT`` names a project with a locked
release of tiny-adder for this engine, which takes FlagScale from git; ``RELFORGE_FLAGSCALE_CLONE``
names the clone that stands in for the address in its manifest (``git_mirrors``). Neither is part of
this repository.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from relforge.manifest.project import find_project
from relforge.manifest.release import Release
from relforge.manifest.source import GitSource
from tests.e2e.conftest import CHECKOUT, containers, relforge, wait_ready, write_site

PROJECT = os.environ.get("RELFORGE_FLAGSCALE_PROJECT")
CLONE = os.environ.get("RELFORGE_FLAGSCALE_CLONE")
NAME = "tiny-adder"  # of the container, in the card's command
STARTER = "run_inference_engine.py"  # FlagScale's own, which vLLM is a child of

pytestmark = [
    pytest.mark.skipif(
        not (PROJECT and CLONE),
        reason="set RELFORGE_FLAGSCALE_PROJECT and RELFORGE_FLAGSCALE_CLONE: a release that takes "
        "FlagScale from git, and the clone to take it from",
    ),
    pytest.mark.timeout(1800),
]


class Released(NamedTuple):
    folder: Path
    source: str
    """Name of the source that FlagScale is."""

    @property
    def record(self) -> Any:
        return json.loads((self.folder / "release.json").read_text())


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    release, source, url = the_release(Path(PROJECT or ""))
    dist = tmp_path_factory.mktemp("flagscale") / "dist"
    site = write_site(
        dist.with_name("site.yaml"),
        dist=str(dist),
        git_mirrors=[{"prefix": url, "to": Path(CLONE or "").resolve().as_uri()}],
    )
    done = relforge(
        "release", "--project", PROJECT or "", "--release", release.name, "--site", site, "--json"
    )
    assert done.code == 0, done.stderr
    return Released(dist / release.name, source)


def the_release(root: Path) -> tuple[Release, str, str]:
    """The release of the project that FlagScale serves, the name of that source and its address."""
    project = find_project(root, root)
    files = sorted(root.glob("manifests/releases/*.yaml"))
    names = [file.stem for file in files if not file.name.endswith(".lock.yaml")]
    (release,) = (r for r in map(project.release, names) if r.engine == "flagscale")
    ((name, url),) = (
        (name, source.url)
        for name, source in release.sources.items()
        if isinstance(source, GitSource) and "/flagscale" in source.url.lower()
    )
    return release, name, url


def test_flagscale_is_in_the_image_and_answers_as_the_reference(released: Released) -> None:
    record = released.record
    assert record["verdicts"] == {"smoke": "pass", "evaluate": "pass", "coverage": "pass"}
    (package,) = (
        p for p in record["results"]["build"]["packages"] if p["source"] == released.source
    )
    assert package["native"] == "none"
    assert package["distribution"] in record["results"]["build"]["python_packages"]
    locked = record["lock"]["sources"][released.source]
    assert locked["kind"] == "git"
    log = (released.folder / "evidence" / "server.log").read_text()
    assert STARTER in log, "FlagScale's own words, then the server's"
    assert log.index(STARTER) < log.index("Application startup complete")


@contextmanager
def container(released: Released) -> Iterator[subprocess.Popen[bytes]]:
    """The image, ready, started by the very command that its card shows."""
    card = (released.folder / "README.md").read_text()
    run = re.search(r"```bash\n( *docker run .*?)```", card, re.DOTALL)
    assert run is not None
    weights = CHECKOUT / "examples" / "tiny-adder"
    # As a renderer of Markdown shows it: without the indentation of the list that it stands in.
    command = textwrap.dedent(run[1]).strip()
    log = released.folder.parent / "container.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            ["bash", "-c", f"WEIGHTS={weights}\nexec {command}"],
            stdout=out, stderr=subprocess.STDOUT,
        ) as started,
    ):  # fmt: skip
        try:
            wait_ready("http://127.0.0.1:8000/health", started)
            yield started
        finally:
            subprocess.run(["docker", "rm", "-f", NAME], capture_output=True, check=False)


def processes() -> dict[int, tuple[int, str]]:
    """Of the container, as its engine sees them: parent and command line by process id."""
    listing = subprocess.run(
        ["docker", "top", NAME, "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    rows = (line.split(None, 2) for line in listing)
    return {int(pid): (int(parent), args) for pid, parent, args in rows}


def server() -> int:
    """vLLM's process; its parent is FlagScale."""
    found = processes()
    (pid,) = (p for p, (_, args) in found.items() if "vllm serve" in args)
    assert STARTER in found[found[pid][0]][1]
    return pid


def test_a_stop_ends_the_server_before_the_container(released: Released) -> None:
    with container(released) as started:
        server()
        subprocess.run(["docker", "stop", "--time", "60", NAME], check=True, capture_output=True)
        assert started.wait(30) == 0
    log = (released.folder.parent / "container.log").read_text()
    assert "Application shutdown complete" in log, "the server was given the time to end"


def test_the_container_fails_with_the_server(released: Released) -> None:
    with container(released) as started:
        os.kill(server(), 9)
        assert started.wait(60) == 1


def test_nothing_is_left_running(released: Released) -> None:
    assert [name for name in containers() if released.folder.name in name] == []
    assert (
        NAME
        not in subprocess.run(
            ["docker", "ps", "-a", "--format", "{{.Names}}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
    )
