"""What a manifest becomes before anything is started."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.device import Device
from relforge.manifest.release import Release
from relforge.serving.engines.base import options
from relforge.serving.model import LaunchSpec
from relforge.serving.spec import Node, docker_argv, exec_script, launch_spec

STACK = {
    "source": "this test",
    "driver": "none",
    "sdk": [],
    "base": {},
    "python": "3.11",
    "torch": [],
    "triton": "none",
    "flagtree": "none",
    "numpy": "none",
    "package_index": "default",
}


def device(**changes: Any) -> Device:
    return Device.model_validate(
        {
            "kind": "device",
            "name": "cpu_x86",
            "title": "x86 CPU",
            "vendor": {"name": "any"},
            "architecture": "amd64",
            "accelerator": False,
            "default_stack": "plain",
            "stacks": {"plain": STACK},
            "template": "base.j2",
            "launch_profiles": [{"name": "toolkit"}],
            **changes,
        }
    )


def release(serve: dict[str, Any] | None = None, **changes: Any) -> Release:
    return Release.model_validate(
        {
            "kind": "release",
            "name": "tiny-cpu_x86",
            "model": "tiny",
            "device": "cpu_x86",
            "engine": "vllm",
            "title": "t",
            "build": {},
            "serve": {"served_name": "tiny", **(serve or {})},
            **changes,
        }
    )


def spec(serve: dict[str, Any] | None = None, **changes: Any) -> LaunchSpec:
    return launch_spec(
        release(serve), device(**changes), image="sha256:" + "1" * 64, weights=Path("/w")
    )


def option(argv: tuple[str, ...], name: str) -> list[str]:
    return [argv[at + 1] for at, word in enumerate(argv) if word == name]


def test_only_the_pinned_weights_are_mounted() -> None:
    node = launch_spec(
        release(), device(), image="i", weights=Path("/w"), weight_files=("sub/a.bin", "b.json")
    ).nodes[0]
    assert [(str(m.host), m.container, m.read_only) for m in node.mounts] == [
        ("/w/b.json", "/models/tiny/b.json", True),
        ("/w/sub/a.bin", "/models/tiny/sub/a.bin", True),
    ]


def test_the_server_is_told_the_path_where_the_weights_are_mounted() -> None:
    node = spec({"model_path": "/data/{model}"}).nodes[0]
    assert node.argv[:3] == ("vllm", "serve", "/data/tiny")
    assert [(m.host, m.container, m.read_only) for m in node.mounts] == [
        (Path("/w"), "/data/tiny", True)
    ]


def test_vllm_options() -> None:
    node = spec(
        {
            "args": {"enforce-eager": True, "dtype": "float32", "prefix": False, "len": 64},
            "tensor_parallel": 2,
        }
    ).nodes[0]
    assert option(node.argv, "--served-model-name") == ["tiny"]
    assert option(node.argv, "--port") == ["8000"]
    assert option(node.argv, "--tensor-parallel-size") == ["2"]
    assert "--pipeline-parallel-size" not in node.argv
    assert node.argv[-6:] == ("--enforce-eager", "--dtype", "float32", "--no-prefix", "--len", "64")


def test_lists_and_mappings_become_json_words() -> None:
    assert list(options({"a": [1, "x y"], "b": {"k": {"n": 1}}})) == [
        "--a",
        '[1,"x y"]',
        "--b",
        '{"k":{"n":1}}',
    ]


@pytest.mark.parametrize("name", ["port", "served-model-name", "served_model_name", "model"])
def test_an_option_that_relforge_sets_itself_is_refused(name: str) -> None:
    with pytest.raises(RelforgeError, match=f"sets '{name}'") as caught:
        spec({"args": {name: "x"}})
    assert caught.value.code == ExitCode.USAGE
    assert "serve." in (caught.value.hint or "")


def test_command_engine_fills_its_placeholders() -> None:
    made = release(
        {
            "command": [
                "python3",
                "-m",
                "s",
                "--model={model_path}",
                "-p",
                "{port}",
                "{served_name}",
            ]
        },
        engine="command",
    )
    node = launch_spec(made, device(), image="i", weights=Path("/w")).nodes[0]
    assert node.argv == ("python3", "-m", "s", "--model=/models/tiny", "-p", "8000", "tiny")
    bad = release({"command": ["x", "{home}"]}, engine="command")
    with pytest.raises(RelforgeError, match=r"unknown placeholder \{home\}"):
        launch_spec(bad, device(), image="i", weights=Path("/w"))


def test_the_least_privilege_that_is_declared_is_taken() -> None:
    profiles = [
        {"name": "raw", "devices": ["/dev/xpu0"], "mounts": ["/opt/driver:/opt/driver:ro"]},
        {"name": "privileged", "privileged": True, "env": {"A": "device"}},
    ]
    node = spec(launch_profiles=profiles).nodes[0]
    assert node.devices == ("/dev/xpu0",)
    assert not node.privileged
    assert node.mounts[1].read_only
    node = spec({"profile": "privileged", "env": {"B": "2"}}, launch_profiles=profiles).nodes[0]
    assert node.privileged
    assert node.env == {"A": "device", "B": "2"}
    with pytest.raises(RelforgeError, match="no launch profile 'toolkit'") as caught:
        spec({"profile": "toolkit"}, launch_profiles=profiles)
    assert "raw, privileged" in (caught.value.why or "")


def test_every_accelerator_of_a_node_is_given_and_no_other() -> None:
    profile = {
        "name": "raw",
        "devices": ["/dev/davinci{index}", "/dev/davinci_manager"],
        "env": {"ASCEND_VISIBLE_DEVICES": "{indices}"},
        "cap_add": ["SYS_PTRACE"],
        "security_opt": ["seccomp=unconfined"],
        "ulimits": {"memlock": -1},
        "ipc": "host",
        "network": "host",
        "gpus": "all",
    }
    node = spec({"tensor_parallel": 2, "data_parallel": 2}, launch_profiles=[profile]).nodes[0]
    assert node.devices == (*(f"/dev/davinci{i}" for i in range(4)), "/dev/davinci_manager")
    assert node.env["ASCEND_VISIBLE_DEVICES"] == "0,1,2,3"
    argv = docker_argv(node)
    assert option(argv, "--cap-add") == ["SYS_PTRACE"]
    assert option(argv, "--security-opt") == ["seccomp=unconfined"]
    assert option(argv, "--ulimit") == ["memlock=-1"]
    assert option(argv, "--ipc") == ["host"]
    assert option(argv, "--network") == ["host"]
    assert option(argv, "--gpus") == ["all"]


@pytest.mark.parametrize("mount", ["relative:/x", "/a:/b:xx", "/a:/b:ro:more"])
def test_a_mount_that_is_none_is_refused(mount: str) -> None:
    with pytest.raises(RelforgeError, match="is not host"):
        spec(launch_profiles=[{"name": "raw", "mounts": [mount]}])


def test_docker_argv_word_for_word() -> None:
    node = Node(
        name="n",
        image="sha256:aa",
        argv=("serve", "a b"),
        env={"K": "v w"},
        shm_bytes=10,
        memory_bytes=20,
        devices=("/dev/x",),
        mounts=({"host": "/w,1", "container": "/m"},),
        ports=({"container": 8000},),
        group_add=("video",),
        user="1000",
        runtime="runc",
        network="bridge",
        privileged=True,
        port=8000,
    )
    assert shlex.join(docker_argv(node)) == (
        "docker run --rm --name n --publish 127.0.0.1::8000 --network bridge --shm-size 10 "
        "--memory 20 --device /dev/x --mount 'type=bind,\"source=/w,1\",target=/m,readonly' "
        "--env 'K=v w' --user 1000 --runtime runc --group-add video --privileged "
        "--entrypoint serve sha256:aa 'a b'"
    )


def test_json_has_the_documented_shape() -> None:
    shown = json.loads(json.dumps(spec({"env": {"K": "1"}}).as_json()))
    assert set(shown) == {"release", "nodes"}
    assert shown["release"] == "tiny-cpu_x86"
    (node,) = shown["nodes"]
    assert set(node) == {"name", "docker_argv", "exec_script", "env"}
    assert node["env"] == {"K": "1"}
    assert node["docker_argv"][:2] == ["docker", "run"]


def test_exec_script_passes_values_through_a_real_shell() -> None:
    awkward = 'it\'s $HOME "and" `more`\nline'
    node = Node(name="n", image="i", argv=("env",), env={"K": awkward}, port=1)
    done = subprocess.run(["sh", "-c", exec_script(node)], capture_output=True, check=True)
    assert f"K={awkward}\n" in done.stdout.decode()
