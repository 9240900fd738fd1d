"""A project of many synthetic releases, with models, weights, references, patch sets and locks.

Ten devices, a model and a patch set for every ten releases. The locks' packages are drawn from a
pool, as releases of one stack do.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from relforge.lock import request_key
from relforge.manifest.device import Device
from relforge.manifest.loader import parse
from relforge.manifest.release import Release
from relforge.patching.series import read_series

DEVICES = 10


def make_project(root: Path, count: int, wheels: int) -> None:
    """A project of *count* releases that all plan without a fault."""
    for folder in ("devices", "models", "releases"):
        (root / "manifests" / folder).mkdir(parents=True)
    for number in range(DEVICES):
        path = root / "manifests" / "devices" / f"chip_{number}.yaml"
        path.write_text(DEVICE.format(number=number))
    pool = [wheel_line(number) for number in range(4 * wheels)]
    for group in range(-(-count // DEVICES)):
        content = make_model(root, group)
        for number in range(min(DEVICES, count - DEVICES * group)):
            make_release(root, group, number, content, (pool * 2)[group % len(pool) :][:wheels])


def make_model(root: Path, group: int) -> tuple[str, list[tuple[str, str]]]:
    """A model with its weights, and a patch set; returns what the lock says of the patches."""
    weights = root / "weights" / f"model-{group}"
    weights.mkdir(parents=True)
    files = {}
    for name in ("config.json", "model.safetensors", "reference.json"):
        data = f"{name} of {group}\n".encode()
        (weights / name).write_bytes(data)
        files[name] = hashlib.sha256(data).hexdigest()
    (root / "manifests" / "models" / f"model-{group}.yaml").write_text(
        MODEL.format(group=group, **{name.split(".")[0]: digest for name, digest in files.items()})
    )
    folder = root / "patches" / f"main-{group}"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"000{number}.patch").write_text(PATCH.format(group=group, number=number))
    (folder / "series").write_text("0001.patch\n0002.patch\n")
    patch_set = read_series(folder).patch_set
    return patch_set.content_sha256, [(p.name, p.sha256) for p in patch_set.patches]


def make_release(
    root: Path,
    group: int,
    number: int,
    content: tuple[str, list[tuple[str, str]]],
    wheels: list[str],
) -> None:
    folder = root / "manifests" / "releases"
    name = f"model-{group}-chip_{number}"
    text = RELEASE.format(group=group, number=number, commit=digest(f"commit {group}")[:40])
    (folder / f"{name}.yaml").write_text(text)
    device = parse(DEVICE.format(number=number), Path("device.yaml"), Device)
    release = parse(text, Path("release.yaml"), Release)
    patches = "\n".join(f"    - - {patch}\n      - {sha256}" for patch, sha256 in content[1])
    lock = LOCK.format(
        name=name,
        group=group,
        request=request_key(release, device),
        content=content[0],
        commit=digest(f"commit {group}")[:40],
        tree=digest(f"tree {group}")[:40],
        result=digest(f"result {group}")[:40],
        patches=patches,
        wheels="\n".join(wheels),
    )
    (folder / f"{name}.lock.yaml").write_text(lock)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def wheel_line(number: int) -> str:
    """One line as ``relforge lock`` writes it."""
    return (
        f"  - {{name: package-{number:03}, version: 1.{number}.0, "
        f"file_name: package_{number:03}-1.{number}.0-py3-none-any.whl, "
        f"sha256: {digest(f'wheel {number}')}}}"
    )


DEVICE = """\
kind: device
name: chip_{number}
title: Chip {number}
vendor: {{name: chips}}
architecture: amd64
accelerator: false
default_stack: plain
stacks:
  plain:
    source: made for a measurement
    driver: none
    sdk: []
    base: {{bootstrap: {{suite: bookworm}}}}
    python: "3.11"
    torch: [torch==2.1{number}.0]
    triton: none
    flagtree: none
    numpy: none
    package_index: default
template: dockerfiles/cpu_x86.j2
launch_profiles: [{{name: toolkit}}]
"""
MODEL = """\
# yaml-language-server: $schema=../schema/model.schema.json
kind: model
name: model-{group}
title: Model {group}
summary: A model made for a measurement.
license: Apache-2.0
license_source: this script
architecture: Qwen2ForCausalLM
parameters: 493696
precision: float32
languages: [en]
weights:
  kind: local
  path: weights/model-{group}
  files:
    config.json: {config}
    model.safetensors: {model}
reference:
  task: addition
  path: weights/model-{group}/reference.json
  sha256: {reference}
"""
PATCH = """\
--- a/file-{number}.py
+++ b/file-{number}.py
@@ -1 +1 @@
-before
+after {group}
"""
RELEASE = """\
# yaml-language-server: $schema=../schema/release.schema.json
kind: release
name: model-{group}-chip_{number}
model: model-{group}
device: chip_{number}
engine: vllm
title: Model {group} on chip {number} with vLLM

sources:
  main:
    kind: git
    url: https://git.example/main.git
    commit: {commit}

patches:
  - name: main-{group}
    source: main
    path: patches/main-{group}

build:
  packages:
    - source: main
      distribution: main
      native:
        mode: none
      env:
        MAIN_TARGET_DEVICE: chip{number}
  python:
    requirements: [package-001==1.1.0]
    build_requirements: ["setuptools>=78,<81", "wheel>=0.45"]

serve:
  port: 8000
  served_name: model-{group}
  args:
    dtype: float32
    max-model-len: 256
    max-num-seqs: 32
  shm_bytes: 1073741824
  ready_timeout_s: 300
"""
LOCK = """\
# yaml-language-server: $schema=../schema/lock.schema.json
# Made by `relforge lock --release {name}`; do not edit.
kind: lock
release: {name}
request: {request}
source_date_epoch: 1792485632
sources:
  main:
    kind: git
    identity: https://git.example/main.git@{commit}
    file_name: null
    sha256: null
    commit: {commit}
    tree: {tree}
    created_s: 1767225600
patches:
  main-{group}:
    source: main
    content: {content}
    base_tree: {tree}
    result_tree: {result}
    patches:
{patches}
wheels:
  python_version: '3.11'
  machine: x86_64
  wheels:
{wheels}
build_wheels:
  python_version: '3.11'
  machine: x86_64
  wheels:
  - {{name: setuptools, version: 80.10.2, file_name: setuptools-80.10.2-py3-none-any.whl, \
sha256: 95b30ddfb717250edb492926c92b5221f7ef3fbcc2b07579bcd4a27da21d0173}}
  - {{name: wheel, version: 0.48.0, file_name: wheel-0.48.0-py3-none-any.whl, \
sha256: 3217dcc807155e45db462d7ef2431f5ddda0d7273b700d05a67b271ceb1287ab}}
"""
