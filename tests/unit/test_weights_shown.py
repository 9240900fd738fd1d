"""What cards and ``check`` make of weights that do not lie in the project."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from relforge.card.weights import weights_source
from relforge.checking import check_project
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site
from tests.support.weights import REVISION, from_hub, model

ASK = {"kind": "on-request", "contact": "models@vendor.example", "ask_for": "the INT4 weights"}


@pytest.mark.parametrize(
    ("weights", "words", "command"),
    [
        (
            {"kind": "local", "path": "examples/toy", "files": {"a": "0" * 64}},
            "the folder `examples/toy` of this project",
            "WEIGHTS=$PWD/examples/toy",
        ),
        (
            from_hub("huggingface", {"a": b""}),
            f"`o/m` on Hugging Face, revision `{REVISION}`",
            f"hf download o/m --revision {REVISION} --local-dir weights\nWEIGHTS=$PWD/weights",
        ),
        (
            from_hub("modelscope", {"a": b""}, revision="v1"),
            "`o/m` on ModelScope, revision `v1`",
            "modelscope download --model o/m --revision v1 --local_dir weights\n"
            "WEIGHTS=$PWD/weights",
        ),
        (
            ASK,
            "ask models@vendor.example for the INT4 weights",
            "WEIGHTS=/folder/of/the/files",
        ),
    ],
)
def test_a_card_says_how_to_get_the_weights(
    weights: dict[str, Any], words: str, command: str
) -> None:
    source = weights_source(model(weights))
    assert words in source.words
    assert source.command == command


def test_a_release_whose_weights_are_on_request_passes_check(tmp_path: Path) -> None:
    for folder in ("models", "releases"):
        (tmp_path / "manifests" / folder).mkdir(parents=True)
    for path in (builtin_root() / "manifests/releases").glob("tiny-adder-cpu_x86.*"):
        shutil.copy(path, tmp_path / "manifests/releases")
    text = (builtin_root() / "manifests/models/tiny-adder.yaml").read_text()
    start, end = text.index("weights:\n"), text.index("reference:\n")
    asking = "weights: {kind: on-request, contact: models@vendor.example, ask_for: the weights}\n"
    (tmp_path / "manifests/models/tiny-adder.yaml").write_text(text[:start] + asking + text[end:])
    report = check_project(Project((tmp_path, builtin_root())), Site())
    assert [f for f in report.faults if "weights" in f.message] == []
    assert "lock of tiny-adder-cpu_x86" in report.checked
