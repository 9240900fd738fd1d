"""A workflow as a file: YAML that says what made it, and is the same whenever it is made of the
same."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Blocks of shell stand as they are read, and nothing refers to another place."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    style = "|" if "\n" in data else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


def _nothing(dumper: yaml.SafeDumper, _data: None) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:null", "")


_Dumper.add_representer(str, _text)
_Dumper.add_representer(type(None), _nothing)


_MADE_BY = b"# Made by `relforge ci "


def is_ours(data: bytes) -> bool:
    """Whether these are the bytes of a file that ``written`` made, edited or not."""
    return not data.strip() or data.startswith(_MADE_BY)


def written(content: Mapping[str, Any], command: str) -> bytes:
    """The file's bytes, with the command that makes it in its first lines."""
    said = (
        f"Made by `{command}`; do not edit. Its settings are `ci` in the site configuration, and "
        "the jobs come from the manifests when it runs (docs/ci.md)."
    )
    head = "".join(f"# {line}\n" for line in textwrap.wrap(said, 96, break_on_hyphens=False))
    body = yaml.dump(
        dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000
    )
    return (head + body).encode()
