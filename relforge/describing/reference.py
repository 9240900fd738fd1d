"""``docs/manifest-reference.md``: every kind of manifest with all its fields."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from pathlib import Path

from relforge.describing.types import Words, default, rules_of
from relforge.describing.written import Written, field
from relforge.frozen import Frozen
from relforge.manifest.project import builtin_root
from relforge.manifest.schema import models

_YAML = {"None": "`null`", "True": "`true`", "False": "`false`"}


@dataclass(frozen=True)
class Kind:
    """A kind of file: where it lies, and a file of this repository that is one.

    ``lines`` are how many of the example's lines are shown; None: all.
    """

    name: str
    place: str
    example: str
    lines: int | None = None


KINDS = (
    Kind("device", "`manifests/devices/<device>.yaml`", "manifests/devices/cpu_x86.yaml"),
    Kind("model", "`manifests/models/<model>.yaml`", "examples/hello/manifests/models/hello.yaml"),
    Kind(
        "reference",
        "`manifests/references/<reference>.yaml`",
        "manifests/references/tiny-adder-pytorch.yaml",
    ),
    Kind(
        "release",
        "`manifests/releases/<model>-<device>[-<variant>].yaml`",
        "examples/hello/manifests/releases/hello-cpu_x86.yaml",
    ),
    Kind(
        "lock",
        "beside its release, `<release>.lock.yaml`; `relforge lock` writes it",
        "examples/hello/manifests/releases/hello-cpu_x86.lock.yaml",
    ),
    Kind(
        "translations",
        "`manifests/translations/<language>.yaml`",
        "manifests/translations/zh.yaml",
        6,
    ),
    Kind(
        "site",
        "`--site`, `$RELFORGE_SITE`, `.relforge/site.yaml` or `~/.config/relforge/site.yaml`",
        "examples/settings/site.yaml",
    ),
    Kind(
        "nodes",
        "anywhere; `nodes` of the site configuration or `relforge serve --nodes` names it",
        "examples/settings/nodes.yaml",
    ),
    Kind(
        "policy",
        "anywhere; `publish.policy` of the site configuration or `--policy` names it",
        "examples/settings/policy.yaml",
    ),
)


@dataclass(frozen=True)
class Row:
    """One field."""

    name: str
    type: str
    required: bool
    default: str
    doc: str


@dataclass(frozen=True)
class Table:
    """One model."""

    heading: str
    anchor: str
    doc: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Chapter:
    """One kind of file: its own fields, and the models in it that no chapter before had."""

    kind: Kind
    top: Table
    nested: tuple[Table, ...]
    example: str


@dataclass(frozen=True)
class Value:
    """A kind of text or number that several fields have."""

    name: str
    doc: str
    rules: str


def anchor(heading: str) -> str:
    """The anchor that code hosts give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def chapters() -> tuple[tuple[Chapter, ...], tuple[Value, ...]]:
    """All kinds with all their models, each once, and the values that they name."""
    known = models()
    tops = {known[kind.name]: f"Kind {kind.name}" for kind in KINDS}
    words = Words(
        lambda model: f"[{model.__name__}](#{anchor(tops.get(model, model.__name__))})",
        lambda value: f"[{value}](#values)",
    )
    done: set[type[Frozen]] = set(tops)
    found = []
    for kind in KINDS:
        top = _table(known[kind.name], f"Kind {kind.name}", words)
        nested = []
        while waiting := [model for model in words.models if model not in done]:
            for model in waiting:
                if model.__name__ in {one.__name__ for one in done}:
                    raise TypeError(f"two models are called {model.__name__}")
                done.add(model)
                nested.append(_table(model, model.__name__, words))
        found.append(Chapter(kind, top, tuple(nested), _example(kind)))
    values = (
        Value(name, one_line(written.doc), ", ".join(rules_of(written, name)))
        for name, written in sorted(words.values.items())
    )
    return tuple(found), tuple(values)


def _table(model: type[Frozen], heading: str, words: Words) -> Table:
    rows = []
    for name, info in model.model_fields.items():
        written = field(model, name)
        value = None if info.is_required() else info.get_default(call_default_factory=True)
        rows.append(
            Row(
                name=info.alias or name,
                type=words.of(written),
                required=info.is_required(),
                default="" if info.is_required() else default(value),
                doc=one_line(written.doc) or _of_a_kind(written),
            )
        )
    return Table(heading, anchor(heading), (model.__doc__ or "").strip(), tuple(rows))


def _as_markdown(doc: str) -> str:
    """Docstrings mark code as reStructuredText does, and name values as Python does."""
    text = inspect.cleandoc(doc).replace("``", "`")
    return re.sub(r"(?<!`)\b(None|True|False)\b", lambda found: _YAML[found[1]], text)


def _of_a_kind(written: Written) -> str:
    """Of the field that says which of several models this is."""
    named = isinstance(written.node, ast.Subscript) and ast.unparse(written.node.value)
    return "Says what this is." if named == "Literal" else ""


def one_line(text: str) -> str:
    return " ".join(text.split())


def _example(kind: Kind) -> str:
    rows = (builtin_root() / kind.example).read_text(encoding="utf-8").splitlines()
    # What stands first is for editors, and differs with the folder.
    rows = [row for row in rows if not row.startswith("# yaml-language-server")]
    return "\n".join(rows[: kind.lines])


def markdown() -> str:
    """The page; the same models and examples give the same bytes."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the output is Markdown
    )
    environment.filters["cell"] = lambda text: text.replace("|", "\\|")
    environment.filters["code"] = _as_markdown
    found, values = chapters()
    template = environment.get_template("reference.md.j2")
    return template.render(chapters=found, values=values)
