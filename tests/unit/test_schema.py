"""The checked-in JSON schemas are those of the models, and our manifests satisfy them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from relforge.manifest.project import builtin_root
from relforge.manifest.schema import models, schema_bytes

FOLDER = builtin_root() / "manifests" / "schema"
MANIFESTS = sorted((builtin_root() / "manifests").glob("*/*.yaml"))


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
def test_every_manifest_names_its_schema_for_editors(path: Path) -> None:
    line = next(x for x in path.read_text().splitlines() if "$schema=" in x)
    assert (path.parent / line.split("$schema=", 1)[1]).resolve().is_file()
