"""Every field that can be wrong, broken one at a time: ``check`` finds each at its line."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.checking import Fault, check_project
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site

RELEASE = "hello-cpu_x86"
Keys = tuple[str | int, ...]

DEVICE_EXTRA: dict[str, Any] = {
    "memory_bytes": 1,
    "sources": ["a document"],
    "other_images": [{"reference": "registry.example/base:1", "source": "a document"}],
    "flaggems": {"vendor": "x", "torch_device": "x", "dispatch_key": "none", "source": "doc"},
    "device_query": {"argv": ["q"], "count": "^x", "memory_used": "(x)", "source": "doc"},
    "visible_devices": {"framework": "X_DEVICES", "toolkit": "none", "sources": ["doc"]},
    "communication": {"library": "XCCL", "env": ["XCCL_ON"], "sources": ["doc"]},
    "host_prerequisites": ["a driver"],
}
RELEASE_EXTRA: dict[str, Any] = {
    "smoke": {"max_tokens": 8, "request_timeout_s": 60.0, "exact": True},
    "serve": {"args": {}, "env": {"HELLO": "1"}, "tensor_parallel": 1, "nodes": 1},
}


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(builtin_root() / "examples" / "hello", root, dirs_exist_ok=True)
    shutil.copytree(builtin_root() / "dockerfiles", root / "dockerfiles")
    (root / "manifests" / "devices").mkdir()
    shutil.copy(builtin_root() / "manifests/devices/cpu_x86.yaml", root / "manifests/devices")
    change(root, "devices/cpu_x86", lambda data: data.update(DEVICE_EXTRA))
    change(root, "devices/cpu_x86", lambda data: data.update(default_release=RELEASE))
    change(root, "releases/" + RELEASE, lambda data: data["serve"].update(RELEASE_EXTRA["serve"]))
    change(root, "releases/" + RELEASE, lambda data: data.update(smoke=RELEASE_EXTRA["smoke"]))
    return root


def change(root: Path, name: str, how: Any) -> None:
    path = root / "manifests" / f"{name}.yaml"
    data = yaml.safe_load(path.read_text())
    how(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def faults(root: Path) -> tuple[Fault, ...]:
    # What linters say has tests of its own; a program started for each mutation takes minutes.
    return check_project(Project((root,)), Site(), lint=False).faults


KINDS = {
    "device": "devices/cpu_x86",
    "model": "models/hello",
    "release": f"releases/{RELEASE}",
}


def places(data: Any, at: Keys = ()) -> Iterator[Keys]:
    """Every key and member below."""
    rows = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in rows:
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


def at(data: Any, keys: Keys) -> Any:
    for key in keys:
        data = data[key]
    return data


def broken(root: Path, name: str, data: Any) -> tuple[str, tuple[Fault, ...]]:
    path = root / "manifests" / f"{name}.yaml"
    before = path.read_text()
    try:
        path.write_text(text := yaml.safe_dump(data, sort_keys=False))
        return text, faults(root)
    finally:
        path.write_text(before)


def found_at(found: tuple[Fault, ...], file: str) -> list[int]:
    """Lines of *file* at which faults stand."""
    pattern = re.compile(rf"{re.escape(file)}\.yaml:(\d+):\d+$")
    return [int(m[1]) for fault in found if fault.where and (m := pattern.search(fault.where))]


def test_the_project_is_valid_before_it_is_broken(valid: Path) -> None:
    assert faults(valid) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_the_wrong_type_is_found_at_its_line(valid: Path, kind: str) -> None:
    """Each value in turn becomes a mapping with a key that nothing has."""
    whole = yaml.safe_load((valid / "manifests" / f"{KINDS[kind]}.yaml").read_text())
    missed = []
    for keys in places(whole):
        data = copy.deepcopy(whole)
        at(data, keys[:-1])[keys[-1]] = {"nothing has this": {"key": 1}}
        if keys == ("serve", "args"):
            continue  # options of the engine's server are its own: any value can be one
        text, found = broken(valid, KINDS[kind], data)
        line = next(n for n, row in enumerate(text.splitlines(), 1) if "nothing has this" in row)
        if not any(abs(line - n) <= 1 for n in found_at(found, KINDS[kind])):
            missed.append((keys, found))
    assert missed == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_key_is_found_at_its_line(valid: Path, kind: str) -> None:
    whole = yaml.safe_load((valid / "manifests" / f"{KINDS[kind]}.yaml").read_text())
    open_maps = {("serve", "args"), ("serve", "env"), ("sources",)}
    missed = []
    for keys in [(), *places(whole)]:
        data = copy.deepcopy(whole)
        part = at(data, keys)
        if not isinstance(part, dict) or keys in open_maps or keys[-1:] == ("env",):
            continue
        part["no_such_key"] = 1
        text, found = broken(valid, KINDS[kind], data)
        line = next(n for n, row in enumerate(text.splitlines(), 1) if "no_such_key" in row)
        if line not in found_at(found, KINDS[kind]):
            missed.append((keys, found))
    assert missed == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_key_is_found(valid: Path, kind: str) -> None:
    """Of the keys that a manifest must have."""
    whole = yaml.safe_load((valid / "manifests" / f"{KINDS[kind]}.yaml").read_text())
    required = {
        "device": ["kind", "name", "title", "vendor", "architecture", "accelerator",
                   "default_stack", "stacks", "launch_profiles"],
        "model": ["kind", "name", "title", "summary", "license", "license_source",
                  "architecture", "parameters", "precision", "weights"],
        "release": ["kind", "name", "model", "device", "engine", "title", "build", "serve"],
    }[kind]  # fmt: skip
    for key in required:
        data = {name: value for name, value in whole.items() if name != key}
        _, found = broken(valid, KINDS[kind], data)
        assert found_at(found, KINDS[kind]), key
        assert any(key in fault.message for fault in found), (key, found)


WRONG: list[tuple[str, Keys, Any, str]] = [
    ("device", ("name",), "other", "describes 'other'"),
    ("device", ("architecture",), "x86", "amd64"),
    ("device", ("template",), "dockerfiles/none.j2", "no dockerfiles/none.j2"),
    ("device", ("default_release",), "none-cpu_x86", "unknown release"),
    ("device", ("default_stack",), "other", "names no stack"),
    ("device", ("memory_bytes",), 0, "greater than or equal to 1"),
    ("device", ("device_query", "count"), "(", "cannot be used"),
    ("device", ("device_query", "memory_used"), "x", "a group"),
    ("device", ("device_query", "argv"), [], "at least 1"),
    ("device", ("vendor", "public_key"), "no key", ""),
    ("device", ("launch_profiles", 0, "name"), "root", "toolkit"),
    ("device", ("launch_profiles", 0, "privileged"), True, "privileged"),
    ("model", ("name",), "hello2", "describes 'hello2'"),
    ("model", ("license",), "unknown", "no licence"),
    ("model", ("precision",), "float12", "float32"),
    ("model", ("precision",), "int4", "base_model_relation: quantized"),
    ("model", ("base_model",), "deepseek-ai/DeepSeek-R1", "without base_model_relation"),
    ("model", ("base_model_relation",), "quantized", "without base_model"),
    ("model", ("parameters",), -1, "greater than or equal to 1"),
    ("model", ("weights", "path"), "nowhere", "no nowhere/"),
    ("model", ("weights", "path"), "../model", "inside its folder"),
    ("model", ("weights", "files", "config.json"), "0" * 64, "not the pinned file"),
    ("model", ("weights", "files", "other.json"), "0" * 64, "no model/other.json"),
    ("model", ("reference", "path"), "none.json", "no none.json"),
    ("model", ("reference", "sha256"), "0" * 64, "not the pinned file"),
    ("release", ("name",), "hello-cpu_x86-x", "<model>-<device>"),
    ("release", ("model",), "helo", "expected 'helo-"),
    ("release", ("device",), "cpu_x68", "expected 'hello-cpu_x68"),
    ("release", ("stack",), "none", "no stack 'none'"),
    ("release", ("engine",), "vlm", "vllm"),
    ("release", ("sources", "hello", "commit"), "main", "commit"),
    ("release", ("sources", "hello", "url"), "git.example/hello", "url"),
    ("release", ("build", "packages", 0, "source"), "other", "unknown source 'other'"),
    ("release", ("build", "packages", 0, "native", "mode"), "magic", "precompiled"),
    ("release", ("build", "template"), "dockerfiles/none.j2", "none.j2"),
    ("release", ("serve", "port"), 70000, "less than or equal to 65535"),
    ("release", ("serve", "model_path"), "models", "not an absolute path"),
    ("release", ("serve", "served_name"), "two words", "pattern"),
    ("release", ("serve", "command"), ["python3", "-m", "hello_server"], "not told where"),
    ("release", ("serve", "profile"), "raw", "profile"),
    ("release", ("serve", "shm_bytes"), 0, "greater than or equal to 1"),
    ("release", ("serve", "tensor_parallel"), 0, "greater than or equal to 1"),
    ("release", ("serve", "nodes"), 2, "cannot share evenly"),
    ("release", ("serve", "ready_timeout_s"), 0, "greater than 0"),
    ("release", ("evaluation", "task"), "none.yaml", "no none.yaml"),
    ("release", ("evaluation", "questions"), 10**6, "more than its task has"),
    ("release", ("evaluation", "margin_points"), 200, "less than or equal to 100"),
    ("release", ("skip",), {"evaluate": "not wanted"}, "declared and skipped"),
    (
        "release",
        ("bench",),
        {"input_tokens": 8, "output_tokens": 8, "levels": [{"concurrency": 1, "prompts": 100}]},
        "a benchmark is declared, and the engine is 'command'",
    ),
    ("release", ("patches",), [{"name": "p", "source": "hello", "path": "no"}], "has no no"),
]


@pytest.mark.parametrize(
    ("kind", "keys", "value", "said"),
    WRONG,
    ids=[f"{w[0]}-{w[1][-1]}-{n}" for n, w in enumerate(WRONG)],
)
def test_a_wrong_value_is_found(valid: Path, kind: str, keys: Keys, value: Any, said: str) -> None:
    data = yaml.safe_load((valid / "manifests" / f"{KINDS[kind]}.yaml").read_text())
    at(data, keys[:-1])[keys[-1]] = value
    _, found = broken(valid, KINDS[kind], data)
    here = [f for f in found if f.where and re.search(rf"{KINDS[kind]}\.yaml:\d+:\d+$", f.where)]
    assert here, found
    assert any(said in fault.message for fault in here), here


def test_a_release_that_no_longer_fits_its_lock_is_found_at_the_lock(valid: Path) -> None:
    data = yaml.safe_load((valid / "manifests" / f"{KINDS['release']}.yaml").read_text())
    data["sources"]["hello"]["commit"] = "0" * 40
    _, found = broken(valid, KINDS["release"], data)
    (fault,) = found
    assert re.search(rf"{RELEASE}\.lock\.yaml:\d+:\d+$", fault.where or "")
    assert "stale" in fault.message
