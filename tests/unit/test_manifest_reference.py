"""docs/manifest-reference.md is what the models say, and says something of every field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from relforge.cli.dispatch import dispatch
from relforge.describing.reference import KINDS, Kind, chapters, markdown
from relforge.describing.types import default
from relforge.manifest.hosts import Nodes
from relforge.manifest.loader import load
from relforge.manifest.project import builtin_root
from relforge.manifest.schema import models
from relforge.manifest.site import LimitsSite, Site
from relforge.manifest.weights import HuggingFaceWeights

ROOT = builtin_root()
PAGE = ROOT / "docs" / "manifest-reference.md"
AGAIN = "run: relforge schema --reference docs/manifest-reference.md"
CHAPTERS, VALUES = chapters()
TABLES = [table for chapter in CHAPTERS for table in (chapter.top, *chapter.nested)]


def test_the_page_is_what_the_models_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), AGAIN


def test_every_kind_of_manifest_is_there() -> None:
    assert {kind.name for kind in KINDS} == {
        name for name in models() if not name.endswith("-output")
    }


def test_every_field_and_every_value_says_what_it_means() -> None:
    silent = [f"{t.heading}.{row.name}" for t in TABLES for row in t.rows if not row.doc]
    assert not silent
    assert not [table.heading for table in TABLES if not table.doc]
    assert not [value.name for value in VALUES if not value.doc]


def test_every_model_that_a_field_has_is_there_once() -> None:
    anchors = [table.anchor for table in TABLES]
    assert len(anchors) == len(set(anchors))
    linked = set(re.findall(r"\]\(#([^)]+)\)", PAGE.read_text(encoding="utf-8")))
    assert linked == {*anchors, "values"}
    schema = set()
    for chapter in CHAPTERS:
        schema |= set(models()[chapter.kind.name].model_json_schema().get("$defs", {}))
    assert schema - {"JsonValue"} <= {table.heading for table in TABLES}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_example_of_a_kind_is_one(kind: Kind) -> None:
    model = models()[kind.name]
    assert load(ROOT / kind.example, model)
    shown = next(c.example for c in CHAPTERS if c.kind == kind)
    assert model.model_validate(yaml.safe_load(shown))


def test_fields_of_one_table_are_those_that_a_manifest_takes() -> None:
    (table,) = (one for one in TABLES if one.heading == "HuggingFaceWeights")
    rows = {row.name: row for row in table.rows}
    assert set(rows) == {"kind", "repository", "revision", "files"}
    # Its own annotation counts, not that of the class above it.
    assert "unresolved" in rows["revision"].type
    assert HuggingFaceWeights.model_fields["pinned"].alias == "files"
    assert rows["files"].default == "`{}`"
    assert rows["repository"].required


def test_defaults_stand_there_as_in_a_manifest() -> None:
    assert default(None) == "`null`"
    assert default(True) == "`true`"
    assert default(("a", "b")) == "`[a, b]`"
    assert default(600.0) == "`600`"
    assert default(Path("a/b")) == "`a/b`"
    assert default(LimitsSite()) == "its own defaults"
    assert default(LimitsSite(jobs=2)) == "`{jobs: 2}`"


def test_the_settings_of_a_site_that_are_shown_are_not_just_names() -> None:
    assert load(ROOT / "examples/settings/site.yaml", Site).limits.devices == {"bi_V150": 2}
    assert len(load(ROOT / "examples/settings/nodes.yaml", Nodes).nodes) == 2


def test_the_command_writes_it_and_finds_what_is_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, folder = tmp_path / "reference.md", tmp_path / "schema"
    words = ["--reference", str(page), "--write", str(folder)]
    assert dispatch("schema", ["--check", *words]) == 2
    assert str(page) in capsys.readouterr().err
    assert not page.exists()
    assert dispatch("schema", words) == 0
    assert page.read_bytes() == PAGE.read_bytes()
    assert len(list(folder.iterdir())) == len(models())
    assert dispatch("schema", ["--check", *words]) == 0
    (folder / "site.schema.json").write_text("{}\n")
    assert dispatch("schema", ["--check", *words]) == 2
    said = capsys.readouterr().err
    assert "site.schema.json" in said
    assert "lock.schema.json" not in said
    assert f"next:  relforge schema --write {folder} --reference {page}" in said
    assert dispatch("schema", ["--check"]) == 2
