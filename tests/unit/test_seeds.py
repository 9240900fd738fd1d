"""The five published pages: everything they tell people to type is in the launch, or deviates.

The rows stand in tests/support/seeds.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from relforge.cli.dispatch import dispatch
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.release import Release
from tests.support.seeds import RELEASES, REPORTED, STATIC_GRAPHS, Row

PROJECT = Project((builtin_root(),))
HOSTS = """\
kind: nodes
nodes:
"""
NODE = (
    "  - {{name: n{n}, address: 10.0.0.{m}, interface: eth0, interfaces: "
    "{{rdma: [eth1, eth1, eth2, eth2, eth3, eth3, eth4, eth4]}}}}\n"
)
FOLDERS = ("--mount", "paddlenlp=/srv/PaddleNLP", "--mount", "exported=/srv/exported")
# What a release leaves to the host, whatever is started of it.
OWN_FOLDERS = {"deepseek-r1-int8-kunlunxin": ("--mount", "ssh=/srv/ssh")}
Serve = Callable[..., str]


@pytest.fixture
def serve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Serve:
    """What ``relforge serve`` prints for a release, on as many nodes as it asks for."""
    monkeypatch.chdir(builtin_root())
    (tmp_path / "site.yaml").write_text("kind: site\nhome: home\n")
    monkeypatch.setenv("RELFORGE_SITE", str(tmp_path / "site.yaml"))

    @cache
    def run(release: str, *words: str) -> str:
        count = PROJECT.release(release).serve.nodes
        hosts = tmp_path / "hosts.yaml"
        hosts.write_text(HOSTS + "".join(NODE.format(n=n, m=n + 1) for n in range(count)))
        own = OWN_FOLDERS.get(release, ())
        code = dispatch("serve", ["--release", release, "--nodes", str(hosts), *own, *words])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    return run


def looked_up(content: Any, path: str) -> Any:
    for part in path.split("/"):
        content = content[int(part) if isinstance(content, list) else part]
    return content


def found_in(release: Release, row: Row, serve: Serve) -> bool:
    page, where, wanted = row
    where, _, number = where.partition("@")
    if where == "deviates":
        return release.page is not None and any(d.what == page for d in release.page.deviates)
    if where == "manifest":
        path, _, value = wanted.partition("=")
        return str(looked_up(release.model_dump(mode="json"), path)) == value
    if where == "client":
        return wanted in serve(release.name, "--print", "client")
    if where.startswith("local "):
        step = where.removeprefix("local ")
        nodes = json.loads(
            serve(release.name, "--print", "json", "--local", step, *FOLDERS)
        )["nodes"]  # fmt: skip
        return all(f" {wanted}" in f" {' '.join(node['docker_argv'])} " for node in nodes)
    nodes = json.loads(serve(release.name, "--print", "json"))["nodes"]
    chosen = nodes if not number else [nodes[int(number)]]
    if where.endswith("env"):
        name, _, value = wanted.partition("=")
        return all(node["env"].get(name) == value for node in chosen)
    if where == "script":
        # Files and scripts travel as arguments of the first node's container.
        return any(wanted in word for word in nodes[0]["docker_argv"])
    # Words as they stand, also behind a comma or after a shell's own.
    spaced = [" ".join(node["docker_argv"]).replace(",", " ,") + " " for node in chosen]
    there = [f"{wanted} ".replace(",", " ,") in text.replace("'", "") for text in spaced]
    return not any(there) if where == "not argv" else all(there)


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_everything_on_the_page_is_in_the_launch_or_deviates(name: str, serve: Serve) -> None:
    release = PROJECT.release(name)
    missing = [row for row in RELEASES[name] if not found_in(release, row, serve)]
    assert missing == []


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_nothing_deviates_that_is_not_on_the_page(name: str) -> None:
    release = PROJECT.release(name)
    assert release.page is not None
    listed = {page for page, where, _ in RELEASES[name] if where == "deviates"}
    assert {deviation.what for deviation in release.page.deviates} == listed


def test_the_pages_have_every_release_of_their_models() -> None:
    """A release that follows a page stands in the table, so that nothing of it goes unread."""
    unread = {
        "deepseek-r1-w8a8-ascend_a3-mooncake",  # its page is pointed to, and read in test_groups
        "deepseek-r1-a8w8-fp8-wint4-nvidia_h100",  # the page has no command for these graphs
        "deepseek-r1-a8w8-fp8-wint4-nvidia_h100-mtp",
    }
    following = {n for n in PROJECT.release_files if PROJECT.release(n).page is not None}
    assert following == set(RELEASES) | unread


def test_the_table_of_static_graphs_is_whole() -> None:
    listed = [
        (name, graph.precision, graph.mtp, graph.nodes, graph.name)
        for name in PROJECT.model_files
        for graph in PROJECT.model(name).static_graphs
    ]
    assert len(STATIC_GRAPHS) == 14
    assert sorted(listed, key=str) == sorted(STATIC_GRAPHS, key=str)


@pytest.mark.parametrize("subject", sorted(REPORTED))
def test_published_figures_are_kept_with_their_source(subject: str) -> None:
    kind, name = subject.split()
    if kind == "release":
        reported = PROJECT.release(name).reported
        assert {one.task: one.value for one in reported} == REPORTED[subject]
        assert all(one.source for one in reported)
        return
    reference = PROJECT.reference(name)
    assert {one.task: one.value for one in reference.figures} == REPORTED[subject]
    assert (reference.status, bool(reference.source)) == ("reported", True)
    assert all(one.evidence is None for one in reference.figures)


@pytest.mark.parametrize("name", sorted(PROJECT.own_releases))
def test_scripts_of_every_release_are_clean(name: str, serve: Serve, tmp_path: Path) -> None:
    mounts = [
        word
        for mount in PROJECT.release(name).serve.mounts
        if mount.host is None
        for word in ("--mount", f"{mount.name}=/srv/{mount.name}")
    ]
    serve(name, "--print", "shell", "--out", str(tmp_path / "launch"), *mounts)
    client = tmp_path / "launch" / "client.sh"
    client.write_text(serve(name, "--print", "client"))
    scripts = [str(path) for path in sorted((tmp_path / "launch").iterdir())]
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
    checked = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
