"""``relforge serve --print``: nothing starts, and what is missing is said at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from relforge.cli.dispatch import dispatch
from relforge.manifest.project import builtin_root

REAL = "tiny-adder-cpu_x86"
HOSTS = """\
kind: nodes
nodes:
  - {name: a, address: 10.0.0.1, interface: eth0}
  - {name: b, address: 10.0.0.2, interface: eth0}
"""


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose release is shared by two nodes."""
    for folder in ("manifests", "patches", "dockerfiles", "examples"):
        shutil.copytree(builtin_root() / folder, tmp_path / folder)
    manifest = tmp_path / "manifests" / "releases" / f"{REAL}.yaml"
    text = manifest.read_text()
    assert "  shm_bytes: 1073741824\n" in text
    manifest.write_text(
        text.replace(
            "  shm_bytes: 1073741824\n",
            "  shm_bytes: 1073741824\n  nodes: 2\n  network: host\n  data_parallel: 2\n"
            "  mounts: [{name: scratch, container: /scratch, read_only: false}]\n",
        )
    )
    (tmp_path / "hosts.yaml").write_text(HOSTS)
    (tmp_path / "site.yaml").write_text("kind: site\nhome: home\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))
    return tmp_path


def serve(*words: str) -> int:
    return dispatch("serve", ["--release", REAL, *words])


NODES = ("--nodes", "hosts.yaml", "--image", "registry.example/x:1", "--mount", "scratch=/mnt/s")


def test_two_nodes_as_json(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve("--print", "json", *NODES) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {"release", "nodes"}
    assert [node["name"] for node in shown["nodes"]] == ["a", "b"]
    for node in shown["nodes"]:
        assert set(node) == {"name", "docker_argv", "exec_script", "env"}
        assert "registry.example/x:1" in node["docker_argv"]
        mount = f"type=bind,source={two}/examples/tiny-adder,target=/models/tiny-adder,readonly"
        assert mount in node["docker_argv"]
        assert "type=bind,source=/mnt/s,target=/scratch" in node["docker_argv"]
    assert "--headless" not in shown["nodes"][0]["docker_argv"]
    assert "--headless" in shown["nodes"][1]["docker_argv"]


def test_a_file_for_each_node(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve("--print", "shell", *NODES, "--out", "launch", "--weights", "/srv/w") == 0
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in (two / "launch").iterdir()) == ["a.sh", "b.sh"]
    assert "source=/srv/w,target" in (two / "launch" / "b.sh").read_text()


def test_one_of_the_nodes(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve("--print", "compose", *NODES, "--node", "b") == 0
    assert "--headless" in capsys.readouterr().out
    assert serve("--print", "compose", *NODES) == 2
    assert "add --out DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (NODES[:4], "--mount scratch=/PATH"),
        (NODES[2:], "needs address of node node0"),
        (("--nodes", "1", *NODES[2:]), "runs on 2 nodes, and 1 are given"),
        (("--nodes", "2", *NODES[2:]), "needs address of node node0"),
        (("--nodes", "none.yaml", *NODES[2:]), "cannot read none.yaml"),
        ((*NODES, "--mount", "scratch"), "is not NAME=/PATH"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_written(
    two: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert serve("--print", "shell", "--out", "launch", *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (two / "launch").exists()


def test_an_image_that_is_not_built_yet_is_printed_with_a_note_and_never_started(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*NODES[:2], *NODES[4:])
    assert serve("--print", "json", *words) == 0
    said = capsys.readouterr()
    assert "is not built yet: relforge build" in " ".join(said.err.split())
    assert f"relforge/{REAL}:" in said.out
    assert serve(*words) == 2
    assert "or name one with --image REF" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "launch"), "--out and --node belong to --print"),
        (("--node", "a"), "--out and --node belong to --print"),
        (("--stop", "--print", "json"), "--print starts nothing"),
    ],
)
def test_options_that_do_not_go_together(
    two: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert serve(*NODES, *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())
