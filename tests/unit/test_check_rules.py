"""What contradicts itself between manifests, rule by rule; the look at a whole fleet is quick."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from relforge.checking import check_project
from relforge.checking.rules import Contradiction, of_model, of_release
from relforge.manifest.device import Device
from relforge.manifest.model import Model
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from tests.support.fleet import make_project

PROJECT = Project((builtin_root(),))


def model(**changes: Any) -> Model:
    content = PROJECT.model("tiny-adder").model_dump(mode="json", by_alias=True)
    return Model.model_validate({**content, **changes})


def release(**serve: Any) -> Release:
    content = PROJECT.release("tiny-adder-cpu_x86").model_dump(mode="json")
    changes = {"served_name": "tiny-adder", "port": 8000, **serve}
    return Release.model_validate({**content, "serve": changes})


def device(files: tuple[str, ...] = ()) -> Device:
    found = PROJECT.device("nvidia_h100")
    raw = found.profiles[1].model_copy(update={"devices": files})
    return found.model_copy(update={"launch_profiles": (raw,)})


def said(found: Any) -> list[tuple[Any, ...]]:
    rows: list[Contradiction] = list(found)
    assert all(row.what and row.why and row.hint for row in rows)
    return [row.keys for row in rows]


R1 = {"base_model": "deepseek-ai/DeepSeek-R1", "base_license": "MIT"}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({}, []),
        ({"license": "unknown"}, [("license",)]),
        ({"name": "R1-INT8"}, [("precision",)]),
        ({"name": "R1-WINT4", "precision": "int8"}, [("precision",), ("precision",)]),
        ({"precision": "int4"}, [("precision",)]),
        (R1, [("base_model",), ("license",)]),
        ({**R1, "base_model_relation": "quantized"}, [("license",)]),
        ({**R1, "base_model_relation": "finetune"}, []),
        (
            {
                "name": "R1-W8A8",
                **R1,
                "base_model_relation": "quantized",
                "precision": "w8a8",
                "license": "MIT",
            },
            [],
        ),
        (
            {**R1, "base_model_relation": "finetune", "precision": "int8"},
            [("base_model_relation",)],
        ),
    ],
)
def test_licence_base_and_precision_of_a_model(
    changes: dict[str, Any], where: list[tuple[str, ...]]
) -> None:
    assert said(of_model(model(**changes), {})) == where


def test_the_licence_of_a_base_in_the_project_counts() -> None:
    base = model(name="base", license="Llama-3.3")
    derived = model(base_model="base", base_model_relation="finetune")
    assert said(of_model(derived, {"base": base})) == [("license",)]
    assert said(of_model(derived, {"base": model(name="base")})) == []


@pytest.mark.parametrize(
    ("serve", "where"),
    [
        ({}, []),
        ({"args": {"data-parallel-rpc-port": 8000}}, [("serve", "args", "data-parallel-rpc-port")]),
        (
            {"nodes": 2, "tensor_parallel": 2, "rendezvous_port": 8000},
            [("serve", "rendezvous_port")],
        ),
        ({"args": {"quantization": "awq"}}, [("serve", "args", "quantization")]),
        ({"args": {"quantization": "fp8"}}, []),
        (
            {"mounts": [{"name": "all", "container": "/models", "host": "/data"}]},
            [("serve", "mounts", 0, "container")],
        ),
        ({"mounts": [{"name": "cache", "container": "/models2", "host": "/data"}]}, []),
    ],
)
def test_paths_ports_and_options_of_a_release(
    serve: dict[str, Any], where: list[tuple[Any, ...]]
) -> None:
    assert said(of_release(release(**serve), device(), model())) == where


@pytest.mark.parametrize(
    ("files", "serve", "fits"),
    [
        (("/dev/x0", "/dev/x1", "/dev/ctl"), {"tensor_parallel": 2}, True),
        (("/dev/x0", "/dev/x1", "/dev/ctl"), {"tensor_parallel": 2, "data_parallel": 2}, False),
        (("/dev/x0", "/dev/x1"), {"tensor_parallel": 4, "nodes": 2}, True),
        (("/dev/x0",), {"tensor_parallel": 2, "devices": ["/dev/x1"]}, True),
        (("/dev/x{index}",), {"tensor_parallel": 8}, True),
        (("/dev/ctl",), {"tensor_parallel": 8}, True),
    ],
)
def test_a_node_gets_as_many_accelerators_as_its_ranks_need(
    files: tuple[str, ...], serve: dict[str, Any], fits: bool
) -> None:
    found = said(of_release(release(**serve), device(files), model()))
    assert found == ([] if fits else [("serve", "tensor_parallel")])


def test_the_whole_fleet_is_checked_quickly(tmp_path: Path) -> None:
    """16 devices of the built-in project and ten more, 60 releases: at most 3 s on a quiet machine;
    time of this process alone is measured, which others on the machine lengthen less."""
    make_project(tmp_path, 60, 8)
    started = time.process_time()
    report = check_project(Project((tmp_path, builtin_root())), Site())
    seconds = time.process_time() - started
    assert report.faults == ()
    assert len(report.checked) > 60 + 26
    assert seconds < 6, f"{seconds:.1f} s"
