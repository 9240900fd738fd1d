"""A manifest's fault is named with file, line, column and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.device import Device
from relforge.manifest.loader import parse
from relforge.manifest.model import Model
from relforge.manifest.release import Release

DEVICE = """\
kind: device
name: toy_x1
title: Toy
vendor: {name: Toys}
architecture: amd64
accelerator: false
default_stack: plain
stacks:
  plain:
    source: this test
    driver: none
    sdk: []
    base: {bootstrap: {suite: bookworm}}
    python: "3.11"
    torch: []
    triton: none
    flagtree: none
    numpy: none
    package_index: default
template: dockerfiles/cpu_x86.j2
launch_profiles: [{name: toolkit}]
"""
RELEASE = """\
kind: release
name: toy-toy_x1
model: toy
device: toy_x1
engine: vllm
title: Toy
sources:
  main: {kind: git, url: "https://git.example/main.git", commit: @COMMIT@}
build:
  packages:
    - {source: main, distribution: main, native: {mode: none}}
serve: {served_name: toy}
""".replace("@COMMIT@", "0123456789" * 4)


def fault(text: str, model: type[Device] | type[Release] | type[Model]) -> RelforgeError:
    with pytest.raises(RelforgeError) as caught:
        parse(text, Path("toy.yaml"), model)
    assert caught.value.code is ExitCode.USAGE
    return caught.value


def test_a_good_manifest_loads() -> None:
    assert parse(DEVICE, Path("toy.yaml"), Device).name == "toy_x1"
    assert parse(RELEASE, Path("toy.yaml"), Release).build.packages[0].source == "main"


def test_an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() -> None:
    error = fault(DEVICE + "acelerator: true\n", Device)
    assert error.where == "toy.yaml:22:1"
    assert "unknown key" in error.what
    assert error.hint == "did you mean 'accelerator'?"


def test_a_wrong_type_is_named_with_its_place_and_value() -> None:
    error = fault(RELEASE + "smoke: {max_tokens: many}\n", Release)
    assert error.where == "toy.yaml:13:9"
    assert "max_tokens" in error.what
    assert "'many'" in error.what


def test_a_missing_key_is_named() -> None:
    error = fault(DEVICE.replace("title: Toy\n", ""), Device)
    assert "title: is required" in error.what


def test_a_fault_inside_a_union_is_found_at_its_line() -> None:
    error = fault(RELEASE.replace("0123456789" * 4, "main"), Release)
    assert error.where is not None
    assert error.where.startswith("toy.yaml:8:")
    assert "commit" in error.what


def test_duplicate_keys_are_refused() -> None:
    error = fault(DEVICE + "title: Again\n", Device)
    assert error.where == "toy.yaml:22:1"
    assert "twice" in error.what


def test_broken_yaml_is_named_with_its_place() -> None:
    error = fault("kind: device\n  name: [\n", Device)
    assert error.where is not None
    assert error.where.startswith("toy.yaml:2:")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: toy-toy_x1", "name: other", "<model>-<device>"),
        ("source: main,", "source: other,", "unknown source 'other'"),
        ("engine: vllm", "engine: command", "needs serve.command"),
        ("https://git.example", "https://me:secret@git.example", "no user name or password"),
    ],
)
def test_contradictions_are_refused(old: str, new: str, said: str) -> None:
    assert said in str(fault(RELEASE.replace(old, new), Release))


def test_weights_cannot_leave_the_project() -> None:
    text = """\
kind: model
name: toy
title: Toy
summary: A toy.
license: MIT
license_source: none
architecture: X
parameters: 1
precision: float32
weights: {kind: local, path: ../elsewhere, files: {}}
"""
    assert "inside its folder" in str(fault(text, Model))
