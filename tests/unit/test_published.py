"""The hand-made release of publishing tests is whole, as `relforge verify` sees it."""

from __future__ import annotations

from pathlib import Path

from relforge.verifying import verify_place
from tests.support.published import RELEASE, make_published


def test_a_made_release_verifies_and_names_its_parts(tmp_path: Path) -> None:
    published = make_published(tmp_path, weights={"model.safetensors": b"w" * 1000})
    report = verify_place(published.folder)
    assert {report.finding(name).verdict for name in ("contents", "image")} == {"pass"}, report
    assert published.fill("team/{model}-{device}") == "team/tiny-adder-cpu_x86"
    assert published.release == RELEASE
    assert {"README.md", "README_zh.md", ".eval_results/openai-gsm8k.yaml",
            "evidence/smoke.json", "weights/model.safetensors"} <= set(published.files)  # fmt: skip


def test_another_file_in_a_layer_is_another_digest(tmp_path: Path) -> None:
    first = make_published(tmp_path).image_digest
    assert make_published(tmp_path).image_digest == first
    assert make_published(tmp_path, python=b"print('bye')\n").image_digest != first
