"""A launch as shell script, Compose file and JSON: each says exactly the same."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from relforge.errors import RelforgeError
from relforge.manifest.hosts import HostNode
from relforge.serving.commands import docker_argv, exec_script, shell_script
from relforge.serving.compose import compose_file
from relforge.serving.model import LaunchSpec, Node
from relforge.serving.rendering import only, rendered, write
from relforge.serving.spec import launch_spec
from tests.unit.test_serving_spec import device, option, release

AWKWARD = 'it\'s $HOME "and" `id` $(id) ${X} \\ * # {"a": 1}'
FULL: dict[str, Any] = {
    "env": {"A": AWKWARD.replace("{X}", "{{X}}"), "B": ""},
    "args": {
        "speculative-config": {"num_speculative_tokens": 3, "method": "mtp"},
        "compilation-config": {"cudagraph_capture_sizes": [4, 16], "mode": "FULL"},
        "chat": AWKWARD,
    },
    "tensor_parallel": 2,
    "network": "host",
    "ipc": "host",
    "pid": "host",
    "uts": "host",
    "devices": ["/dev/infiniband", "/dev/a:/dev/b:rw"],
    "cap_add": ["SYS_PTRACE", "ALL"],
    "security_opt": ["seccomp=unconfined"],
    "ulimits": {"memlock": -1, "nofile": 65536},
    "tmpfs": {"/dev/shm": {"size_bytes": 64 * 2**30, "executable": True}},
    "mounts": [
        {"name": "share", "container": "/share"},
        {"name": "conf", "host": "/etc/hccn.conf", "container": "/etc/hccn.conf"},
        {"name": "out", "host": "/out", "container": "/out", "read_only": False},
    ],
    "workdir": "/workspace",
}
PROFILE = {
    "name": "raw",
    "devices": ["/dev/xpu{index}"],
    "cap_add": ["SYS_PTRACE"],
    "gpus": "all",
    "privileged": True,
}


def launch(serve: dict[str, Any] | None = None, **changes: Any) -> LaunchSpec:
    return launch_spec(
        release(FULL if serve is None else serve),
        device(launch_profiles=[PROFILE]),
        image="registry.example/x@sha256:" + "1" * 64,
        weights=Path("/weights, all"),
        mounts={"share": Path("/mnt/share")} if serve is None else None,
        **changes,
    )


def linted(script: str) -> str:
    done = subprocess.run(
        ["shellcheck", "--shell=sh", "-"], input=script, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout


def test_the_script_tells_docker_exactly_this(tmp_path: Path) -> None:
    spec = launch()
    script = shell_script(spec, spec.nodes[0])
    (tmp_path / "docker").write_text('#!/bin/sh\nprintf "%s\\0" docker "$@"\n')
    (tmp_path / "docker").chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, check=True, env={"PATH": f"{tmp_path}:/bin"}
    )
    assert done.stdout.decode().split("\0")[:-1] == list(docker_argv(spec.nodes[0]))


def test_scripts_are_clean() -> None:
    host = HostNode(name="far", context="ssh://ops@far")
    for spec in (launch(), launch({}), launch({}, hosts=(host,))):
        script = shell_script(spec, spec.nodes[0])
        assert linted(script) == ""
        subprocess.run(["bash", "-n", "-c", script], check=True)
        assert linted(exec_script(spec.nodes[0])) == ""


def test_what_the_release_adds_to_the_container() -> None:
    node = launch().nodes[0]
    assert node.env == {"A": AWKWARD, "B": ""}
    argv = docker_argv(node)
    assert option(argv, "--tmpfs") == ["/dev/shm:rw,nosuid,nodev,exec,size=68719476736"]
    assert option(argv, "--shm-size") == [], "the tmpfs takes its place"
    assert option(argv, "--cap-add") == ["SYS_PTRACE", "ALL"], "each once"
    assert option(argv, "--device") == ["/dev/xpu0", "/dev/xpu1", *FULL["devices"]]
    assert option(argv, "--ulimit") == ["memlock=-1", "nofile=65536"]
    for name in ("--ipc", "--pid", "--uts", "--network"):
        assert option(argv, name) == ["host"]
    assert option(argv, "--workdir") == ["/workspace"]
    assert option(argv, "--publish") == []
    assert option(argv, "--mount") == [
        'type=bind,"source=/weights, all",target=/models/tiny,readonly',
        "type=bind,source=/mnt/share,target=/share,readonly",
        "type=bind,source=/etc/hccn.conf,target=/etc/hccn.conf,readonly",
        "type=bind,source=/out,target=/out",
    ]
    assert option(argv, "--speculative-config") == ['{"method":"mtp","num_speculative_tokens":3}']


def test_the_engine_is_told_the_same() -> None:
    from docker import APIClient

    from relforge.engine.creating import _config

    api = APIClient(base_url="http://127.0.0.1:9", version="1.44")
    try:
        told = _config(SimpleNamespace(api=api), launch().nodes[0], {})  # type: ignore[arg-type]
    finally:
        api.close()
    host = told["HostConfig"]
    assert host["Tmpfs"] == {"/dev/shm": "rw,nosuid,nodev,exec,size=68719476736"}
    assert (host["PidMode"], host["UTSMode"], host["IpcMode"]) == ("host",) * 3
    assert host["NetworkMode"] == "host"
    assert host["CapAdd"] == ["SYS_PTRACE", "ALL"]
    assert told["WorkingDir"] == "/workspace"


def unescaped(value: Any) -> Any:
    """What Compose makes of a value when no variable is to be replaced."""
    if isinstance(value, str):
        assert "$" not in value.replace("$$", ""), "Compose would look for a variable"
        return value.replace("$$", "$")
    if isinstance(value, dict):
        return {key: unescaped(inner) for key, inner in value.items()}
    return [unescaped(inner) for inner in value] if isinstance(value, list) else value


def service(spec: LaunchSpec) -> tuple[str, dict[str, Any]]:
    content = yaml.safe_load(compose_file(spec, spec.nodes[0]))
    assert set(content) == {"name", "services"}
    assert set(content["services"]) == {"server"}
    return content["name"], unescaped(content["services"]["server"])


def test_the_compose_file_says_the_same() -> None:
    spec = launch()
    node = spec.nodes[0]
    name, made = service(spec)
    assert name == "relforge-tiny-cpu_x86"
    assert (*made["entrypoint"], *made["command"]) == node.argv
    assert made["environment"] == node.env
    assert made["image"] == node.image
    assert made["container_name"] == node.name
    assert made["devices"] == [
        "/dev/xpu0:/dev/xpu0", "/dev/xpu1:/dev/xpu1", "/dev/infiniband:/dev/infiniband",
        "/dev/a:/dev/b:rw",
    ]  # fmt: skip
    assert [(v["source"], v["target"], v["read_only"]) for v in made["volumes"]] == [
        (str(m.host), m.container, m.read_only) for m in node.mounts
    ]
    assert made["ulimits"] == {"memlock": -1, "nofile": 65536}
    assert made["tmpfs"] == ["/dev/shm:rw,nosuid,nodev,exec,size=68719476736"]
    assert (made["network_mode"], made["ipc"], made["pid"], made["uts"]) == ("host",) * 4
    assert made["privileged"] is True
    assert made["cap_add"] == ["SYS_PTRACE", "ALL"]
    assert made["security_opt"] == ["seccomp=unconfined"]
    assert made["working_dir"] == "/workspace"
    assert "shm_size" not in made
    assert "ports" not in made
    (gpus,) = made["deploy"]["resources"]["reservations"]["devices"]
    assert gpus == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_ports_and_memory_in_a_compose_file() -> None:
    _, made = service(launch({"memory_bytes": 10**9}, host_port=8001))
    assert made["ports"] == [
        {"target": 8000, "published": "8001", "host_ip": "127.0.0.1", "protocol": "tcp"}
    ]
    assert made["mem_limit"] == "1000000000"
    assert made["shm_size"] == "67108864"
    _, made = service(launch({}))
    assert "published" not in made["ports"][0], "the engine chooses one"


def test_a_file_for_each_node(tmp_path: Path) -> None:
    spec = launch({})
    two = spec.model_copy(
        update={"nodes": tuple(spec.nodes[0].model_copy(update={"host": h}) for h in ("a", "b"))}
    )
    assert write(two, two.nodes, "shell", tmp_path / "o") == (
        tmp_path / "o" / "a.sh",
        tmp_path / "o" / "b.sh",
    )
    assert (tmp_path / "o" / "b.sh").stat().st_mode & 0o777 == 0o755
    assert "node 2 of 2 (b)" in (tmp_path / "o" / "b.sh").read_text()
    write(two, two.nodes, "compose", tmp_path / "o")
    write(two, two.nodes, "json", tmp_path / "o")
    assert {p.name for p in (tmp_path / "o").iterdir()} == {
        f"{host}{suffix}" for host in "ab" for suffix in (".sh", ".compose.yaml", ".json")
    }
    (node,) = json.loads((tmp_path / "o" / "b.json").read_text())["nodes"]
    assert node["name"] == "b"
    assert json.loads(rendered(two, only(two, "a"), "json"))["nodes"][0]["name"] == "a"
    with pytest.raises(RelforgeError, match="has no node 'c'") as caught:
        only(two, "c")
    assert caught.value.why == "there are a, b"


@pytest.mark.parametrize(
    ("serve", "mounts", "said"),
    [
        ({"mounts": [{"name": "share", "container": "/share"}]}, {}, "'share' at /share has no"),
        ({}, {"other": Path("/x")}, "has no mount 'other'"),
        ({"mounts": [{"name": "m", "host": "/x", "container": "/models/tiny/"}]}, {}, "two mounts"),
    ],
)
def test_mounts_that_are_refused(serve: dict[str, Any], mounts: dict[str, Path], said: str) -> None:
    with pytest.raises(RelforgeError, match=said):
        launch_spec(release(serve), device(), image="i", weights=Path("/w"), mounts=mounts)


@pytest.mark.parametrize(
    "serve",
    [
        {"tmpfs": {"/dev/shm": {"size_bytes": 1}}, "shm_bytes": 1},
        {"tmpfs": {"/a": {"size_bytes": 1}}, "mounts": [{"name": "m", "container": "/a"}]},
        {"mounts": [{"name": "m", "container": "/a"}, {"name": "m", "container": "/b"}]},
        {"mounts": [{"name": "m", "container": "/a/../b"}]},
        {"mounts": [{"name": "m", "host": "/a,b", "container": "/b"}]},
        {"devices": ["/etc/passwd"]},
        {"cap_add": ["sys_ptrace"]},
        {"ulimits": {"memlock": -2}},
        {"workdir": "here"},
        {"flagscale": {}},
        {"paddlenlp": {}},
    ],
)
def test_a_manifest_with_a_fault(serve: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        release(serve)


def test_a_bare_node_is_still_a_node() -> None:
    node = Node(name="n", image="i", argv=("run",), port=1)
    spec = LaunchSpec(
        release="r", served_name="s", health_path="/h", ready_timeout_s=1, nodes=(node,)
    )
    assert docker_argv(node) == (
        "docker", "run", "--rm", "--name", "n", "--entrypoint", "run", "i",
    )  # fmt: skip
    content = yaml.safe_load(compose_file(spec, node))
    assert content["services"]["server"]["command"] == [], "the image's own command is not added"
