"""What the card is about: names that contradict each other, judged by the card's own names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import unquote

from relforge.card.engine_words import ENGINES
from relforge.card.lint.document import Document, Heading
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.kind import all_commands, is_card, is_deployment
from relforge.card.lint.names import NAME, PRECISION, QUANTIZED, bare, own_name, parts
from relforge.card.lint.results import known_task, result_tables

_CODE = re.compile(r"`[^`]*`|https?://\S+|\S+@\S+|[\w.-]+/[\w./-]+|\w[\w-]*(?:\.[a-z][\w-]*)+")
"""Code spans, addresses, paths and host names, which have a spelling of their own."""
_CONTACT = re.compile(r"[\w.+-]+@[\w-]+\.\w|https?://|mailto:")
_DEVICE = re.compile(r"(?<![a-z0-9])([a-z]{2,6})[-_ ]?(v?)(\d{2,4})(?![\da-z]|\.\d)", re.I)
_WITH_V = re.compile(r"[a-z][-_ ]?v\d{2}", re.I)
_BITS = re.compile(r"(?<![a-z0-9])w\d{1,2}a\d{1,2}(?![a-z0-9])", re.I)
"""Bits of weights and activations."""
_BROKEN = re.compile(r"\b([A-Za-z][\w.]*-) (\w[\w.]*(?:-\w[\w.]*)+)")
_FEWEST_WORDS = 12
"""Shorter sections are alike by chance."""
_KIND = re.compile(r"(?<![A-Za-z])([A-BD-Z]PU|[A-Z][CL]U)s?(?![A-Za-z])")
"""Kinds of accelerators: GPU, NPU and all that are formed alike; not the CPU."""
_DEVICE_NODE = re.compile(r"/dev/([a-bd-z]pu|[a-z][cl]u)[\d$]", re.I)
_HUB = re.compile(
    r"^https?://(?:www\.)?(?:huggingface\.co|hf\.co|modelscope\.(?:cn|ai)/models|hf-mirror\.com)/"
    r"([\w.-]+)/([\w.-]+)"
)


def _spelling(document: Document) -> Iterator[Hit]:
    if not is_card(document):
        return
    yield from _case(document)
    yield from _digits(document)
    broken = [(p.line, m[0].rstrip(".")) for p in document.prose for m in _BROKEN.finditer(p.text)]
    plain = {bare(m[0]) for m in NAME.finditer(document.text)} if broken else set()
    for line, name in broken:
        if bare(name) in plain:
            yield Hit(line, f"a blank within a name: {name!r}")


def _case(document: Document) -> Iterator[Hit]:
    """Parts of the card's own name that the text writes in another case."""
    own = own_name(document)
    words = {part for part in re.split(r"[^A-Za-z]+", own.text if own else "") if len(part) > 4}
    words = {word for word in words if _varies(word, document.text)}
    texts = [(number, _CODE.sub("", text)) for number, text in _texts(document)] if words else []
    for word in sorted(words):
        seen: Counter[str] = Counter()
        first: dict[str, int] = {}
        for number, text in texts:
            for match in re.finditer(rf"(?<![A-Za-z]){word}(?![A-Za-z])", text, re.I):
                seen[match[0]] += 1
                first.setdefault(match[0], number)
        usual = word if word in seen else ""
        for other, line in first.items():
            # A word of everyday language is written small in sentences.
            if usual and other != usual and (other.isupper() or not other[0].isupper()):
                if other.islower() and not _is_proper(document, usual):
                    continue
                yield Hit(line, f"{other!r} here, {usual!r} elsewhere")


def _varies(word: str, text: str) -> bool:
    return text.lower().count(word.lower()) > text.count(word)


def _is_proper(document: Document, word: str) -> bool:
    """Whether a word has its capital letter within sentences, and mostly."""
    text = "\n".join(line.text for line in document.prose)
    within = len(re.findall(rf"[a-z,] {word}(?![\w-])", text))
    return within >= 2 and within > len(re.findall(rf"(?<![\w.@/-]){word.lower()}(?![\w-])", text))


def _digits(document: Document) -> Iterator[Hit]:
    """``AB100`` and ``ab_V100``: alike but for a v before the number."""
    if not _WITH_V.search(document.text):
        return
    forms: dict[str, dict[str, tuple[int, str]]] = {}
    for number, text in enumerate(document.lines, 1):
        for match in _DEVICE.finditer(re.sub(r"https?://\S+", "", text)):
            key = f"{match[1]}{match[3]}".lower()
            form = bare(match[0])
            forms.setdefault(key, {}).setdefault(form, (number, match[0]))
    for found in forms.values():
        (_, usual), *others = found.values()
        for number, other in others:
            yield Hit(number, f"{other!r} here, {usual!r} further up")


def _texts(document: Document) -> Iterator[tuple[int, str]]:
    yield from ((line.line, line.text) for line in document.prose)
    yield from ((heading.line, heading.text) for heading in document.headings)
    for table in document.tables:
        yield table.line, " ".join(table.header)
        yield from ((row.line, " ".join(row.cells)) for row in table.rows)


def _foreign_name(document: Document) -> Iterator[Hit]:
    own = own_name(document)
    if own is None or not is_card(document):
        return
    for table in document.tables:
        for index, header in enumerate(table.header):
            # A column of contacts is headed by whom one writes to.
            proper = re.fullmatch(r"[A-Z][A-Za-z]{3,}", header) is not None
            if not proper or _common(header):
                continue
            contacts = any(_CONTACT.search(cell) for cell in table.column(index))
            if contacts and _written(document, header) == 1:
                yield Hit(table.line, f"a contact for {header!r}, which nothing else here names")
    for heading in document.headings:
        for match in NAME.finditer(heading.text) if heading.line != own.line else ():
            name = parts(match[0])
            kin = name[0] == own.parts[0] and any(part[0].isdigit() for part in name[1:])
            if not kin or known_task(match[0])[0]:
                continue
            if bare(document.text).count(bare(match[0])) == 1:
                yield Hit(
                    heading.line, f"the heading names {match[0]}, which nothing else here does"
                )


def _written(document: Document, word: str) -> int:
    return len(re.findall(rf"(?<![A-Za-z]){word}(?![A-Za-z])", _without_targets(document), re.I))


def _without_targets(document: Document) -> str:
    return re.sub(r"\]\([^)]*\)|https?://\S+", "]", document.text)


_COMMON = frozenset(
    {"contact", "email", "address", "link", "links", "source", "website", "homepage", "download",
     "repository", "reference", "location", "where", "notes", "details", "maintainer", "docs",
     "documentation", "model", "models", "image", "name", "project", "author", "paper", "code",
     "license", "licence", "value", "description", "remark", "owner", "support", "resource"}
)  # fmt: skip


def _common(header: str) -> bool:
    return header.lower() in _COMMON


def _foreign_link(document: Document) -> Iterator[Hit]:
    if not is_card(document):
        return
    visible = _without_targets(document).lower()
    for link in document.links:
        match = _HUB.match(unquote(link.target))
        if match is None or link.image or link.text.strip() == link.target:
            continue
        words = [w for w in re.split(r"[^a-z]+", match[2].lower()) if len(w) > 3]
        # The first word is the model's; its sizes and formats are everywhere.
        if words and words[0] not in visible and words[0] not in link.text.lower():
            yield Hit(
                link.line,
                f"{link.text!r} links to a page of {match[2]}, which nothing else here names",
            )


def _own_name(document: Document) -> Iterator[Hit]:
    own = own_name(document)
    if own is None or len(own.parts) < 3:
        return
    for results in result_tables(document):
        names = {header: parts(header) for header in results.columns if " " not in header}
        if len(names) < 2 or any(set(own.parts) <= set(name) for name in names.values()):
            continue
        others = [part for name in names.values() for part in set(name)]
        for header, name in names.items():
            alone = {part for part in name if others.count(part) == 1}
            if alone & set(own.parts) and set(name) - set(own.parts):
                yield Hit(results.table.line, f"the table says {header}, the card {own.text}")


def _dropped(document: Document) -> Iterator[Hit]:
    own = own_name(document)
    if own is None or not own.quantized or not is_card(document):
        return
    front = document.front_matter.text if document.front_matter else ""
    words = re.sub(re.escape(own.text), "", document.words, flags=re.I)
    precision = re.compile(
        rf"(?<![a-z0-9]){own.quantized}(?![a-z0-9])|quanti[sz]|-bit|bits|量化", re.I
    )
    if not precision.search(words) and "quantized" not in front:
        yield Hit(own.line, f"{own.quantized} stands in the card's name and in no sentence of it")
    model = bare("".join(p for p in own.parts[:2] if not PRECISION.fullmatch(p)))
    for command in all_commands(document):
        name = "" if command.program in ENGINES else _served(command.argv)
        if name and model and bare(name).startswith(model) and not QUANTIZED.search(name):
            yield Hit(command.line, f"{name} is served, without {own.quantized} in its name")


def _served(argv: tuple[str, ...]) -> str:
    """The name behind ``serve``, where it is no path and no option."""
    for word, following in pairwise(argv):
        if word == "serve" and not re.search(r"[/$]|^-", following):
            return following
    return ""


def _other_weights(document: Document) -> Iterator[Hit]:
    own = own_name(document)
    if own is None or not own.quantized or not is_deployment(document):
        return
    if any("quanti" in word for command in all_commands(document) for word in command.argv):
        return
    for command in document.commands:
        model = downloaded(command.argv)
        name = model.rpartition("/")[2]
        if name and parts(name)[0] == own.parts[0] and not QUANTIZED.search(name):
            yield Hit(command.line, f"{model} is downloaded for a card of {own.quantized} weights")


def downloaded(argv: tuple[str, ...]) -> str:
    """The model that a hub's command fetches, as ``owner/name``; else an empty string."""
    if "download" not in argv[:3]:
        return ""
    rest = argv[argv.index("download") + 1 :]
    for word, following in pairwise((*rest, "")):
        if word == "--model":
            return following
    return next((word for word in rest[:1] if re.fullmatch(r"[\w.-]+/[\w.-]+", word)), "")


def _device_kind(document: Document) -> Iterator[Hit]:
    if not is_card(document):
        return
    nodes = {m[1].upper() for b in document.blocks for m in _DEVICE_NODE.finditer(b.text)}
    told = [(line.line, m[1]) for line in document.prose for m in _KIND.finditer(line.text)]
    if nodes and told and not nodes & {kind for _, kind in told}:
        line, kind = told[0]
        yield Hit(line, f"the text says {kind}, the commands use /dev/{min(nodes).lower()}…")


def _foreign_precision(document: Document) -> Iterator[Hit]:
    if not is_card(document):
        return
    about = Counter(match[0].lower() for match in _BITS.finditer(document.text))
    if len(about) == 1:
        return
    for line in document.prose:
        for match in _BITS.finditer(line.text):
            if about[match[0].lower()] == 1:
                yield Hit(line.line, f"nothing else here speaks of {match[0]}")


def _repeated(document: Document) -> Iterator[Hit]:
    texts = Counter(heading.text.lower() for heading in document.headings)
    seen: dict[tuple[str, ...], list[tuple[frozenset[str], tuple[str, ...]]]] = {}
    path: list[Heading] = []
    within = 0
    for heading, end in _sections(document):
        while path and path[-1].level >= heading.level:
            path.pop()
        path.append(heading)
        if within and heading.level > within:
            continue
        within = 0
        if texts[heading.text.lower()] == 1:
            continue
        body = "\n".join(document.lines[heading.line : end])
        words = frozenset(re.findall(r"\w{3,}", body.lower()))
        code = tuple(b.text for b in document.blocks if heading.line < b.line <= end)
        before = seen.setdefault(tuple(h.text.lower() for h in path), [])
        if len(words) >= _FEWEST_WORDS:
            for others, other_code in before:
                if code == other_code and _alike(words, others):
                    within = heading.level
                    yield Hit(heading.line, f"the section {heading.text!r} stands here twice")
                    break
        before.append((words, code))


def _sections(document: Document) -> Iterator[tuple[Heading, int]]:
    """Every heading with the last line of its section, the sections below it included."""
    headings = document.headings
    for index, heading in enumerate(headings):
        after = next((h.line for h in headings[index + 1 :] if h.level <= heading.level), None)
        yield heading, after - 1 if after else len(document.lines)


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= 0.9 * max(len(one), len(other))


RULES = (
    Rule(
        id="identity-spelling",
        severity="warning",
        title="One name in several spellings",
        why="A reader cannot tell whether two things are meant, and a search finds half of it.",
        remedy="spell the name as its maker does, everywhere",
        check=_spelling,
    ),
    Rule(
        id="identity-foreign-name",
        severity="warning",
        title="A name that nothing else in the card names",
        why="The text was taken from another card, and readers write to or run the wrong thing.",
        remedy="put the name of this card's own model, device or maker",
        check=_foreign_name,
    ),
    Rule(
        id="identity-foreign-link",
        severity="warning",
        title="A link to a page about another model",
        why="The link was taken from another card; readers end where they do not belong.",
        remedy="link to the page of this card's own model, or name the other one in the text",
        check=_foreign_link,
    ),
    Rule(
        id="identity-own-name",
        severity="warning",
        title="The results are headed by another name than the card's",
        why="A reader cannot tell whether the figures are those of this release.",
        remedy="head the column with the card's own name",
        check=_own_name,
    ),
    Rule(
        id="identity-precision-dropped",
        severity="warning",
        title="A precision in the name, and nowhere else",
        why="Readers take the figures and commands for those of the full-precision model.",
        remedy="say which weights are meant: name, precision and how they were made",
        check=_dropped,
    ),
    Rule(
        id="identity-other-weights",
        severity="warning",
        title="Weights of another precision are downloaded",
        why="They do not fit the devices or the configuration, after hours of download.",
        remedy="download the weights that the card is about",
        check=_other_weights,
    ),
    Rule(
        id="identity-device-kind",
        severity="warning",
        title="Another kind of accelerator in the text than in the commands",
        why="Readers look for the wrong hardware.",
        remedy="call the devices by their own kind",
        check=_device_kind,
    ),
    Rule(
        id="identity-foreign-precision",
        severity="note",
        title="A precision that nothing else in the card names",
        why="Readers look for weights and commands that are not there.",
        remedy="say where those weights are, or leave the sentence out",
        check=_foreign_precision,
    ),
    Rule(
        id="identity-repeated-section",
        severity="error",
        title="A section that stands there twice",
        why="The copies drift apart, and readers follow either.",
        remedy="remove one of them",
        check=_repeated,
    ),
)
