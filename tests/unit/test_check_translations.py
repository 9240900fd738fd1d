"""`relforge check` finds translations whose sentence is gone, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from relforge.checking import check_project
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.site import Site

KNOWN = "the LICENSE file of deepseek-ai/DeepSeek-R1"


def faults(tmp_path: Path, text: str) -> list[tuple[str | None, str]]:
    folder = tmp_path / "manifests" / "translations"
    folder.mkdir(parents=True)
    (folder / "zh.yaml").write_text(text)
    report = check_project(Project((tmp_path, builtin_root())), Site(), lint=False)
    return [(f.where, f.message) for f in report.faults if f.subject == "translations zh"]


HEAD = "kind: translations\nlanguage: zh\nsentences:\n"


def test_a_translation_of_what_a_manifest_says_is_fine(tmp_path: Path) -> None:
    assert faults(tmp_path, f"{HEAD}  {KNOWN}: 许可证文件\n") == []


def test_a_translation_of_what_no_manifest_says_is_named_with_its_line(tmp_path: Path) -> None:
    ((where, message),) = faults(tmp_path, f"{HEAD}  {KNOWN}: 许可证\n  {KNOWN} 2024: 许可证\n")
    assert where == f"{tmp_path}/manifests/translations/zh.yaml:5:3"
    assert f"no manifest says '{KNOWN} 2024'" in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: translations\nlanguage: xx\nsentences: {}\n", "language"),
        ("kind: model\nlanguage: zh\nsentences: {}\n", "kind"),
        (f"{HEAD}  a: [b]\n", "sentences"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, says: str) -> None:
    found = faults(tmp_path, text)
    assert found
    assert says in f"{found[0]}"
