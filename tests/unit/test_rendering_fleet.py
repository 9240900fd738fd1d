"""Dockerfiles for every device: a plugin on a vLLM without kernels, on whatever base it names."""

from __future__ import annotations

from typing import Any

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.lock import Lock, LockedSource, LockedWheels
from relforge.manifest.common import UNKNOWN
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.rendering import render_dockerfile
from relforge.subject import Subject

PROJECT = Project((builtin_root(),))
BUILDABLE = sorted(
    name
    for name, device in PROJECT.devices.items()
    if UNKNOWN not in (device.architecture, device.stack.python, device.stack.base)
)
COMMIT = "1" * 40


def release(device: str, **build: Any) -> Release:
    return Release.model_validate(
        {
            "kind": "release",
            "name": f"tiny-adder-{device}",
            "model": "tiny-adder",
            "device": device,
            "engine": "vllm",
            "title": "A plugin",
            "sources": {
                name: {"kind": "git", "url": f"https://git.example/{name}.git", "commit": COMMIT}
                for name in ("vllm", "gems", "plugin", "other")
            },
            "build": {
                "packages": [
                    {
                        "source": "vllm",
                        "distribution": "vllm",
                        "native": {"mode": "none"},
                        "env": {"VLLM_TARGET_DEVICE": "empty"},
                    },
                    {"source": "gems", "distribution": "flag-gems", "native": {"mode": "none"}},
                    {
                        "source": "plugin",
                        "distribution": "vllm-plugin",
                        "plugin": True,
                        "native": {
                            "mode": "compiled",
                            "reads": ["setup.py", "csrc"],
                            "commands": [["python3", "setup.py", "build_ext"]],
                        },
                    },
                    {
                        "source": "other",
                        "distribution": "other",
                        "native": {"mode": "scripts", "commands": [["sh", "build it.sh"]]},
                    },
                ],
                "python": {"with_stack": "triton"},
                **build,
            },
            "serve": {"served_name": "x"},
        }
    )


def rendered(device: str, **build: Any) -> str:
    wheels = LockedWheels(python_version="3.11", machine="x86_64")
    made = release(device, **build)
    lock = Lock(
        release=made.name,
        request="0" * 64,
        source_date_epoch=0,
        sources={
            name: LockedSource(kind="git", identity=name, commit=COMMIT, tree=COMMIT)
            for name in made.sources
        },
        wheels=wheels,
        build_wheels=wheels,
    )
    return render_dockerfile(
        Subject(PROJECT, made, PROJECT.device(device), PROJECT.model("tiny-adder"), lock, Site())
    )


def test_all_but_what_nobody_tells_can_be_rendered() -> None:
    assert set(PROJECT.devices) - set(BUILDABLE) <= {"spacemit", "thead", "tsingmicro"}


@pytest.mark.parametrize("name", BUILDABLE)
def test_every_device_renders_with_every_kind_of_package(name: str) -> None:
    text = rendered(name)
    stages = [line.split(" AS ")[1] for line in text.splitlines() if line.startswith("FROM ")]
    assert stages == [
        *("system", "toolchain", "dependencies", "wheel-vllm", "wheel-flag-gems"),
        *("native-vllm-plugin", "wheel-vllm-plugin", "wheel-other"),
        *("runtime", "report-run", "report", "image"),
    ]
    device = PROJECT.device(name)
    runtime = text.split(" AS runtime\n")[1].split("\nFROM ")[0]
    assert ("useradd" in runtime) == (device.stack.as_root is None)
    assert ("/opt/activated/bin" in runtime) == (device.stack.activate is not None)
    assert ("PATH=/opt/venv/bin:$PATH" in runtime) == (name != "cpu_x86"), "the vendor's stays"
    assert "HEALTHCHECK" in text.split(" AS image\n")[1]
    assert "sh 'build it.sh'\n" in text
    assert "\n\n\n" not in text


def test_compilers_stay_out_of_the_image() -> None:
    text = rendered("cpu_x86")
    for stage in ("dependencies", "runtime", "image"):
        assert "g++" not in text.split(f" AS {stage}\n")[1].split("\nFROM ")[0]


def test_a_block_that_is_not_there_is_an_error_with_those_that_are() -> None:
    with pytest.raises(RelforgeError, match="has no block 'runtme'") as caught:
        rendered("cpu_x86", blocks={"runtme": "RUN true"})
    assert caught.value.code == ExitCode.USAGE
    assert caught.value.where == "release tiny-adder-cpu_x86, build.blocks.runtme"
    assert "compile_vllm, compile_flaggems, plugin" in (caught.value.why or "")


def test_a_block_of_the_release_stands_over_that_of_the_template() -> None:
    text = rendered("ascend_a3", blocks={"healthcheck": "", "labels": "LABEL only=this\n"})
    image = text.split(" AS image\n")[1]
    assert image.strip() == "LABEL only=this"


@pytest.mark.parametrize(
    ("text", "where", "why"),
    [
        ("{{ nothing }}", "build.blocks", "'nothing' is undefined"),
        ("RUN x\n{% if %}", "build.blocks.labels", "line 2 of it: Expected an expression"),
    ],
)
def test_a_fault_in_a_block_stands_where_the_block_is(text: str, where: str, why: str) -> None:
    with pytest.raises(RelforgeError, match=r"the blocks of .* cannot be rendered") as caught:
        rendered("cpu_x86", blocks={"labels": text})
    assert caught.value.where == f"release tiny-adder-cpu_x86, {where}"
    assert why in (caught.value.why or "")
