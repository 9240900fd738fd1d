"""What cards and ``check`` make of weights that do not lie in the project."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from relforge.card.parts.weights import weights_step
from relforge.card.words import words_of
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
            "They are a part of the release.",
            "WEIGHTS=$PWD/weights",
        ),
        (
            from_hub("huggingface", {"a": b""}),
            f"`o/m` on Hugging Face, at revision `{REVISION}`",
            f"hf download o/m --revision {REVISION} --local-dir weights\nWEIGHTS=$PWD/weights",
        ),
        (
            from_hub("modelscope", {"a": b""}, revision="v1"),
            "`o/m` on ModelScope, at revision `v1`",
            "modelscope download --model o/m --revision v1 --local_dir weights\n"
            "WEIGHTS=$PWD/weights",
        ),
        (
            ASK,
            "write to <models@vendor.example> and ask for the INT4 weights",
            "WEIGHTS=$PWD/weights",
        ),
    ],
)
def test_a_card_says_how_to_get_the_weights(
    weights: dict[str, Any], words: str, command: str
) -> None:
    step = weights_step(model(weights), published=True)
    assert words in words_of("en").say(step.words[0])
    assert [code.text for code in step.codes] == [command]


def test_weights_of_the_project_are_those_of_its_folder_before_anything_is_published() -> None:
    weights = {"kind": "local", "path": "examples/toy", "files": {"a": "0" * 64}}
    step = weights_step(model(weights), published=False)
    assert [code.text for code in step.codes] == ["WEIGHTS=$PWD/examples/toy"]


def test_a_revision_that_nobody_pinned_is_not_in_the_command() -> None:
    step = weights_step(model(from_hub("huggingface", {}, revision="unresolved")), published=True)
    assert "unresolved" not in step.codes[0].text
    assert "--revision" not in step.codes[0].text


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
