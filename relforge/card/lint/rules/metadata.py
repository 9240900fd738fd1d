"""What a hub and its readers look for first: head, title, licence, versions, date, devices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.kind import is_card, is_deployment
from relforge.card.lint.names import common_model, is_generic, own_name
from relforge.card.lint.results import result_tables

_LICENCES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern, re.I))
    for name, pattern in (
        (
            "apache-2.0",
            r"\bapache(?:[- ]license)?(?:,? version)?[- ]?(?:2(?:\.0)?|license)|\bapache\b",
        ),
        ("mit", r"\bMIT\b(?: licen[cs]e)?"),
        ("bsd-3-clause", r"\bBSD[- ]3"),
        ("gpl-3.0", r"(?<![AL])\bGPL(?:v|[- ])?3|(?<!Lesser )GNU General Public Licen[cs]e v?3"),
        ("lgpl-3.0", r"\bLGPL(?:v|[- ])?3"),
        ("agpl-3.0", r"\bAGPL(?:v|[- ])?3"),
        ("mpl-2.0", r"\bMPL[- ]2|Mozilla Public Licen[cs]e"),
        ("cc-by-4.0", r"\bCC[- ]BY[- ]4"),
        ("cc-by-nc-4.0", r"\bCC[- ]BY[- ]NC[- ]4"),
    )
)
_LICENCE = re.compile(r"licen[cs]|许可", re.I)
_STATES = re.compile(r"licen[cs]ed|under|released|licen[cs]e|许可", re.I)
_BASED_ON = re.compile(r"\b(?:based on|derived from|quantized from|converted from)\b|基于", re.I)
_VERSION = re.compile(
    r"\b(?:python|torch|pytorch|vllm|cuda|driver|sdk|runtime|toolkit|engine|triton|transformers|"
    r"sglang|onnxruntime|firmware|docker)\b\D{0,30}?\d+\.\d+|\w+:v?\d+\.\d+|驱动\D{0,20}\d+\.\d+|"
    r"\b[A-Za-z][\w-]+ v\d+\.\d+",
    re.I,
)
_DATE = re.compile(
    r"\b20[12]\d[-/.]\d{1,2}\b|\b20[12]\d\s*年|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"[a-z]*\.?\s+(?:\d{1,2},?\s+)?20[12]\d",
    re.I,
)
_DEVICES = re.compile(
    r"\b(?:\d+|one|two|four|eight|sixteen|single)\s*[x\u00d7]?\s*(?:[A-Z][\w-]*\s+){0,3}"
    r"(?:[A-Z][PCL]U|card|accelerator|device|core)s?\b|[一两四八]\s*(?:张|块|卡)|"
    r"\d+\s*(?:张|块|卡)|\b\d+\s*[x\u00d7]\s*\w+|\(\d+G\s*[x\u00d7]",
    re.I,
)
_DEVICES_IN_COMMANDS = re.compile(
    r"tensor[_-]parallel|--tp\b|parallel_size|_VISIBLE_DEVICES=|--gpus\s+['\"]*(?:\d|device)|"
    r"--device[= ]/dev/\w*\d|nproc_per_node"
)
_FIELDS = ("base_model", "license", "pipeline_tag", "library_name", "language", "tags")


_BEGUN = re.compile(rf"\A\ufeff?---[ \t]*\n(?:{'|'.join(_FIELDS)}):", re.M)


def _front_matter(document: Document) -> Iterator[Hit]:
    front = document.front_matter
    if front is None:
        if _BEGUN.match(document.text):
            yield Hit(1, "the front matter begins here, and no line --- ends it", severity="error")
        elif is_deployment(document):
            yield Hit(1, "the card has no front matter", severity="note")
    elif not is_card(document):
        return
    elif front.error is not None:
        why = front.error.strip().split("\n")[0]
        yield Hit(front.first_line - 1, f"the front matter does not parse: {why}", severity="error")
    elif not isinstance(front.data, dict):
        yield Hit(front.first_line - 1, "the front matter holds no fields", severity="error")


def _fields(document: Document) -> dict[str, Any]:
    front = document.front_matter
    return front.data if front is not None and isinstance(front.data, dict) else {}


def _empty_field(document: Document) -> Iterator[Hit]:
    if not is_card(document):
        return
    for name, value in _fields(document).items():
        empty = value is None or value in ("", [], {}) or value == [None] or value == [""]
        if name in _FIELDS and empty:
            yield Hit(_field_line(document, name), f"{name} is empty")


def _field_line(document: Document, name: str) -> int:
    front = document.front_matter
    assert front is not None
    for index, text in enumerate(front.text.split("\n")):
        if text.startswith(f"{name}:"):
            return front.first_line + index
    return 1


def _stated(document: Document) -> list[tuple[int, str, str]]:
    """Sentences that state a licence: line, SPDX id, text."""
    found = []
    for line in document.prose:
        section = document.section_of(line.line)
        told = section is not None and _LICENCE.search(section.text)
        if not (told or _LICENCE.search(line.text)) or not _STATES.search(line.text + " under"):
            continue
        for name, pattern in _LICENCES:
            if pattern.search(line.text):
                found.append((line.line, name, line.text))
                break
    return found


def _conflict(document: Document) -> Iterator[Hit]:
    declared = _fields(document).get("license")
    if not isinstance(declared, str) or declared.lower() not in dict(_LICENCES):
        return
    for line, name, text in _stated(document):
        heading = document.section_of(line)
        about = heading is not None and _LICENCE.search(heading.text)
        if name != declared.lower() and about and not _names(declared, text):
            yield Hit(line, f"{name} here, license: {declared} in the front matter")
            return
        if about:
            return


def _names(licence: str, text: str) -> bool:
    return dict(_LICENCES)[licence.lower()].search(text) is not None


def _no_licence(document: Document) -> Iterator[Hit]:
    if not is_card(document) or _fields(document).get("license"):
        return
    linked = any(_LICENCE.search(link.target) for link in document.links)
    if not linked and not _LICENCE.search(document.words) and not _licence_file(document.base):
        yield Hit(1, "the card names no licence")


def _licence_file(base: Path | None) -> bool:
    """Whether the folder of the card, or one of the two above it, has a file with a licence."""
    if base is None:
        return False
    folders = [base.absolute(), *base.absolute().parents[:2]]
    return any(
        path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING"))
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
    )


def _licence_text(document: Document) -> Iterator[Hit]:
    if not is_deployment(document) or _fields(document).get("license"):
        return
    stated = _stated(document)
    if not stated or any(_LICENCE.search(link.target) for link in document.links):
        return
    yield Hit(stated[-1][0], f"{stated[-1][1]}, and no link to its text")


def _relation(document: Document) -> Iterator[Hit]:
    own = own_name(document)
    if own is None or not own.quantized or not is_card(document):
        return
    fields = _fields(document)
    if "base_model" in fields:
        if fields.get("base_model_relation") != "quantized":
            line = _field_line(document, "base_model")
            yield Hit(line, f"{own.quantized} in the name, and no base_model_relation: quantized")
        return
    if document.front_matter is None and re.search(r"\bquantized\b|量化", document.words):
        return
    based = [
        line.line
        for line in document.prose
        if _BASED_ON.search(line.text) and re.search(r"weights?\b|权重", line.text)
    ]
    yield Hit(based[-1] if based else 1, f"{own.quantized} in the name, and no base model declared")


def _no_versions(document: Document) -> Iterator[Hit]:
    if is_deployment(document) and not _VERSION.search(document.words):
        yield Hit(1, "no version of driver, runtime or engine is named")


def _no_date(document: Document) -> Iterator[Hit]:
    if is_deployment(document) and not _DATE.search(document.words):
        yield Hit(1, "nothing says when this was released")


def _no_devices(document: Document) -> Iterator[Hit]:
    if not is_deployment(document) or _DEVICES.search(document.words):
        return
    if not any(_DEVICES_IN_COMMANDS.search(block.text) for block in document.blocks):
        yield Hit(1, "nothing says how many devices it takes")


def _no_title(document: Document) -> Iterator[Hit]:
    first = [heading for heading in document.headings if heading.level == 1]
    if is_card(document) and len(first) > 1 and is_generic(first[0].text):
        told = f"{len(first)} headings of level 1, and the first one is {first[0].text!r}"
        yield Hit(first[0].line, told)


def _differ(documents: tuple[Document, ...]) -> Iterator[Hit]:
    by_model: dict[str, list[tuple[Document, int, str]]] = {}
    for document in documents:
        model = _model(document) if is_card(document) else ""
        stated = _stated(document)
        declared = _fields(document).get("license")
        if model and stated:
            by_model.setdefault(model, []).append((document, *stated[-1][:2]))
        elif model and isinstance(declared, str):
            line = _field_line(document, "license")
            by_model.setdefault(model, []).append((document, line, declared.lower()))
    for model, found in by_model.items():
        if len({name for _, _, name in found}) > 1:
            for document, line, name in found:
                others = sorted({n for _, _, n in found} - {name})
                told = f"{name} for {model}, {' and '.join(others)} in other cards of it"
                yield Hit(line, told, document=document)


def _model(document: Document) -> str:
    base = _fields(document).get("base_model")
    if isinstance(base, str) and base:
        return base.rpartition("/")[2].lower()
    columns = next((table.columns for table in result_tables(document)), ())
    return "-".join(common_model(columns)) if len(columns) > 1 else ""


RULES = (
    Rule(
        id="metadata-front-matter",
        severity="warning",
        title="No front matter, or none that can be read",
        why="Hubs show no licence and no base model, and no search finds the card by them.",
        remedy="begin the file with license, base_model, library_name and pipeline_tag in YAML",
        check=_front_matter,
    ),
    Rule(
        id="metadata-empty-field",
        severity="error",
        title="An empty field of the front matter",
        why="Hubs refuse it, or show that nothing is known.",
        remedy="fill it in, or leave it out",
        check=_empty_field,
    ),
    Rule(
        id="metadata-licence-conflict",
        severity="error",
        title="Two licences",
        why="Nobody knows which one holds, so nobody may rely on either.",
        remedy="name one licence for each thing: weights, image, scripts",
        check=_conflict,
    ),
    Rule(
        id="metadata-no-licence",
        severity="warning",
        title="No licence",
        why="Without one nobody may use what the card offers.",
        remedy="name the licence of the weights and of the image, with a link to its text",
        check=_no_licence,
    ),
    Rule(
        id="metadata-licence-text",
        severity="note",
        title="A licence without its text",
        why="Readers cannot see what they agree to, nor which version it is.",
        remedy="link to the licence's text",
        check=_licence_text,
    ),
    Rule(
        id="metadata-licences-differ",
        severity="warning",
        title="Other cards of the model state another licence",
        why="One of them is wrong.",
        remedy="look the licence up where the weights come from, and correct the others",
        together=_differ,
    ),
    Rule(
        id="metadata-quantized-relation",
        severity="warning",
        title="Quantized weights that do not say so to the hub",
        why="The hub lists them as the original, or as a fine-tune.",
        remedy="add base_model and base_model_relation: quantized to the front matter",
        check=_relation,
    ),
    Rule(
        id="metadata-no-versions",
        severity="warning",
        title="No versions",
        why="When it fails, nobody can tell which part is too old or too new.",
        remedy="name the versions of driver, Python, torch and engine that were tested",
        check=_no_versions,
    ),
    Rule(
        id="metadata-no-date",
        severity="note",
        title="No date",
        why="Readers cannot tell whether the release is current.",
        remedy="say when it was released",
        check=_no_date,
    ),
    Rule(
        id="metadata-no-devices",
        severity="note",
        title="No number of devices",
        why="Readers learn from an error whether their machine is large enough.",
        remedy="say how many devices, with how much memory, the commands need",
        check=_no_devices,
    ),
    Rule(
        id="metadata-no-title",
        severity="warning",
        title="No title",
        why="Hubs, tabs and search results show a word that fits any document.",
        remedy="begin with one heading of level 1 that names the release; put the others below it",
        check=_no_title,
    ),
)
