"""The checked-in JSON schemas are those of the models, and our manifests satisfy them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from relforge.lock import Lock, write_lock
from relforge.manifest.loader import load
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.schema import models, schema_bytes

FOLDER = builtin_root() / "manifests" / "schema"
MANIFESTS = sorted(
    path
    for folder in (builtin_root(), *(builtin_root() / "examples").iterdir())
    for path in (folder / "manifests").glob("*/*.yaml")
)
HERE_DOCUMENT = re.compile(r"^cat > manifests/\S+\.yaml <<'YAML'\n(.*?)^YAML$", re.M | re.S)


@pytest.mark.parametrize("name", sorted(models()))
def test_the_file_is_what_the_model_says(name: str) -> None:
    path = FOLDER / f"{name}.schema.json"
    assert path.read_bytes() == schema_bytes(models()[name]), (
        "run: relforge schema --write manifests/schema"
    )


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_every_manifest_satisfies_its_schema(path: Path) -> None:
    data = yaml.safe_load(path.read_text())
    schema = json.loads((FOLDER / f"{data['kind']}.schema.json").read_text())
    jsonschema.validate(data, schema)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.name)
def test_every_manifest_names_its_schema_in_its_first_line(path: Path) -> None:
    first = path.read_text().split("\n", 1)[0]
    assert first.startswith("# yaml-language-server: $schema=")
    named = (path.parent / first.split("=", 1)[1]).resolve()
    kind = yaml.safe_load(path.read_text())["kind"]
    assert named == FOLDER / f"{kind}.schema.json"
    assert named.is_file()


def test_the_examples_are_among_them() -> None:
    assert {"hello-cpu_x86.yaml", "hello-cpu_x86.lock.yaml", "hello.yaml"} <= {
        path.name for path in MANIFESTS
    }


def test_manifests_that_the_docs_write_name_theirs() -> None:
    found = [
        text
        for path in sorted((builtin_root() / "docs").glob("*.md"))
        for text in HERE_DOCUMENT.findall(path.read_text())
    ]
    assert found
    for text in found:
        kind = yaml.safe_load(text)["kind"]
        assert text.startswith(f"# yaml-language-server: $schema=../schema/{kind}.schema.json\n")


@pytest.mark.parametrize(
    "path", [p for p in MANIFESTS if p.name.endswith(".lock.yaml")], ids=lambda p: p.name
)
def test_a_lock_is_as_it_would_be_written_now(path: Path, tmp_path: Path) -> None:
    """With the schema where the manifest beside it has its own."""
    name = path.name.removesuffix(".lock.yaml")
    folder = tmp_path / "manifests" / "releases"
    folder.mkdir(parents=True)
    for file in (path, path.with_name(f"{name}.yaml")):
        shutil.copy(file, folder)
    project = Project((tmp_path,))
    assert not write_lock(project, project.release(name), load(path, Lock))
