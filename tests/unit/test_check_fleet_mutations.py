"""Manifests of the fleet, broken one field at a time: ``check`` finds each at its line.

The hello release of test_check_mutations has the fields that a build and an evaluation need; these
have the others: images taken as they are, groups, pages, clients, graphs, requests for weights.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from relforge.manifest.project import builtin_root
from tests.unit.test_check_mutations import at, broken, faults, found_at, places

CHOSEN = {
    "devices": ("ascend_a3", "bi_V150", "kunlunxin", "nvidia_h100"),
    "models": (
        *("deepseek-r1", "deepseek-r1-int4", "deepseek-r1-int8", "deepseek-r1-w8a8"),
        *("deepseek-r1-wint4", "deepseek-r1-distill-qwen-32b"),
    ),
    "releases": (
        "deepseek-r1-int4-bi_V150",
        "deepseek-r1-int8-kunlunxin",
        "deepseek-r1-distill-qwen-32b-nvidia_h100",
        "deepseek-r1-w8a8-ascend_a3-throughput",
        "deepseek-r1-w8a8-ascend_a3-mooncake",
        "deepseek-r1-wint4-nvidia_h100",
    ),
}
BROKEN = (
    "devices/bi_V150",
    "models/deepseek-r1-wint4",
    "models/deepseek-r1-w8a8",
    "models/deepseek-r1-int4",
    *(f"releases/{name}" for name in CHOSEN["releases"]),
)
# Options of servers are their own: any value can be one.
FREE = ("args", "additional-config", "kv-transfer-config", "compilation-config")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fleet")
    shutil.copytree(builtin_root() / "dockerfiles", root / "dockerfiles")
    for kind, names in CHOSEN.items():
        (root / "manifests" / kind).mkdir(parents=True)
        for name in names:
            for path in (builtin_root() / "manifests" / kind).glob(f"{name}.*"):
                shutil.copy(path, root / "manifests" / kind)
    return root


def test_the_fleet_is_valid_before_it_is_broken(fleet: Path) -> None:
    assert faults(fleet) == ()


@pytest.mark.parametrize("name", BROKEN)
def test_a_value_of_the_wrong_type_is_found_at_its_line(fleet: Path, name: str) -> None:
    whole = yaml.safe_load((fleet / "manifests" / f"{name}.yaml").read_text())
    missed = []
    for keys in places(whole):
        if any(key in FREE for key in keys):
            continue
        data = copy.deepcopy(whole)
        at(data, keys[:-1])[keys[-1]] = {"nothing has this": {"key": 1}}
        text, found = broken(fleet, name, data)
        line = next(n for n, row in enumerate(text.splitlines(), 1) if "nothing has this" in row)
        if not any(abs(line - n) <= 1 for n in found_at(found, name)):
            missed.append((keys, found))
    assert missed == []


WRONG: list[tuple[str, tuple[str | int, ...], Any, str]] = [
    ("devices/bi_V150", ("stacks", "corex4.4.0", "activate"), "relative.sh", "pattern"),
    ("devices/bi_V150", ("vendor",), {"name": "iluvatar"}, "nobody is named who hands out the key"),
    ("models/deepseek-r1-w8a8", ("weights", "revision"), "master", "a branch moves"),
    ("models/deepseek-r1-w8a8", ("weights", "revision"), "v1.0", "are pinned together"),
    ("models/deepseek-r1-w8a8", ("license",), "Apache-2.0", "is not that of the base model"),
    ("models/deepseek-r1-w8a8", ("precision",), "bfloat16", "contradicts the name"),
    ("models/deepseek-r1-wint4", ("static_graphs", 0, "nodes"), 2, "is for 2 nodes"),
    ("models/deepseek-r1-wint4", ("static_graphs",), [], "has no static graph"),
    ("releases/deepseek-r1-int4-bi_V150", ("patches", 0, "sha256"), "0" * 63, "sha256"),
    ("releases/deepseek-r1-int4-bi_V150", ("serve", "tensor_parallel"), 8, "leave out"),
    (
        "releases/deepseek-r1-int4-bi_V150",
        ("build", "packages", 1, "distribution"),
        "vllm",
        "builds a distribution twice",
    ),
    (
        "releases/deepseek-r1-int4-bi_V150",
        ("build", "blocks"),
        {"nothing": "RUN true"},
        "has no block 'nothing'",
    ),
    (
        "releases/deepseek-r1-int8-kunlunxin",
        ("build", "packages"),
        [{"source": "x", "distribution": "x", "native": {"mode": "none"}}],
        "taken as it is has no packages",
    ),
    ("releases/deepseek-r1-int8-kunlunxin", ("serve", "nodes"), 3, "cannot share evenly"),
    (
        "releases/deepseek-r1-int8-kunlunxin",
        ("serve", "env", "BKCL_SOCKET_IFNAME"),
        "{interfce}",
        "unknown placeholder {interfce}",
    ),
    ("releases/deepseek-r1-int8-kunlunxin", ("serve", "shm_bytes"), 1 << 30, "say the same thing"),
    (
        "releases/deepseek-r1-w8a8-ascend_a3-throughput",
        ("serve", "args", "port"),
        8001,
        "relforge sets itself",
    ),
    (
        "releases/deepseek-r1-w8a8-ascend_a3-throughput",
        ("serve", "mounts", 0, "container"),
        "/models",
        "lies over the weights",
    ),
    (
        "releases/deepseek-r1-w8a8-ascend_a3-mooncake",
        ("serve", "groups", 2, "nodes"),
        3,
        "groups have 5 nodes together",
    ),
    (
        "releases/deepseek-r1-w8a8-ascend_a3-mooncake",
        ("serve", "proxy", "command", 1),
        "{no_such_word}",
        "unknown placeholder {no_such_word}",
    ),
    (
        "releases/deepseek-r1-wint4-nvidia_h100",
        ("serve", "paddlenlp", "static_graph"),
        "deepseek-ai/DeepSeek-R1/int2",
        "has no static graph",
    ),
    ("releases/deepseek-r1-wint4-nvidia_h100", ("client", "asks", 0, "api"), "embeddings", "chat"),
    (
        "releases/deepseek-r1-distill-qwen-32b-nvidia_h100",
        ("stack",),
        "cuda99",
        "no stack 'cuda99'",
    ),
]


@pytest.mark.parametrize(
    ("name", "keys", "value", "said"), WRONG, ids=[f"{w[1][-1]}-{n}" for n, w in enumerate(WRONG)]
)
def test_a_wrong_value_is_found(
    fleet: Path, name: str, keys: tuple[str | int, ...], value: Any, said: str
) -> None:
    data = yaml.safe_load((fleet / "manifests" / f"{name}.yaml").read_text())
    at(data, keys[:-1])[keys[-1]] = value
    _, found = broken(fleet, name, data)
    assert any(said in fault.message for fault in found), found
    assert all(fault.where and fault.where.rsplit(":", 2)[-1].isdigit() for fault in found), found
