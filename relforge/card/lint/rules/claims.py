"""What the card says about itself, held against what it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.kind import all_commands, container_calls, is_card, is_deployment
from relforge.card.lint.rules.identity import downloaded

_NUMBERS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8,
}  # fmt: skip
_COUNT = re.compile(
    r"(?<!one of )(?<!any of )(?<!either of )(?<!first )(?<!last )(?<!\w)"
    r"(two|three|four|five|six|seven|eight|nine|ten)\s+(?:`[^`]+`\s+)?(?:[a-z-]+\s+){0,2}?[a-z]+s"
    r"(?:\s+(?:of|in|for|to|at|below|here|that|which)\b[^.:()]{0,30})?:\s*$|"
    r"([两三四五六七八])[个项种大][^。:\uff1a]{0,20}[:\uff1a]\s*$",
    re.I,
)
_ITEM = re.compile(r"^(\s*)(?:([-*+])|(\d{1,3})[.)])\s+\S")
_SHARE = re.compile(
    r"(?:approximately|about|around|roughly|nearly|almost|over|~|≈|约|大约|近)\s*\d+(?:\.\d+)?\s*%",
    re.I,
)
_COUNTED = re.compile(r"\d[\d,]*\s*(?:of|out of|/|个)\s*(?:the\s*)?\d", re.I)
_REQUEST = re.compile(
    r"\b(?:by e-?mail|(?:up)?on request|e-?mail us for|apply for|applied for)\b|"
    r"邮件(?:申请|获取|联系)",
    re.I,
)
_IMAGE = re.compile(r"\bimages?\b|镜像", re.I)
_WEIGHTS = re.compile(r"\bweights?\b|\bmodel files?\b|权重|模型文件", re.I)
_COMMENTS = (
    (
        r"num[_-]seqs|concurren\w*|batch[_-]size|max[_-]batch",
        r"(?:concurrent|parallel|sequences|requests)",
    ),
    (r"model[_-]len|context[_-]length|max[_-]tokens", r"tokens"),
    (
        r"parallel[_-]size|num[_-]gpus|nproc[_-]per[_-]node",
        r"(?:GPUs?|NPUs?|cards|devices|accelerators)",
    ),
)
"""Settings, and the nouns that a comment counts them in."""
_SETTING = re.compile(r"^\s*-{0,2}([\w-]+)[:=\s]\s*(\d+)\s*\\?\s*#(.*)$")
_SUPERLATIVE = re.compile(
    r"\b(?:excellent|outstanding|superior|exceptional|remarkable|impressive|superb|unmatched)\s+"
    r"(?:\w+\s+)?(?:performance|accuracy|speed|throughput|results)\b",
    re.I,
)
_AT_LEAST = re.compile(
    r"(?:at least|no less than|minimum(?: of)?|not below|至少|不小于)\s*`?(\d[\d,]*)", re.I
)
_FLAG = re.compile(r"`(--[a-z][\w-]+)`")
_FOLDER = re.compile(
    r"\b(?:download|put|place|save|store|copy)\w*\b[^.]*\b(?:weights?|model)\b[^.]*"
    r"\b(?:to|in|into|under|at)\s+`?(/[\w./-]+)",
    re.I,
)
_NUMBERED_DEVICE = re.compile(r"^(/dev/[a-z]+)(\d+)")


def _count(document: Document) -> Iterator[Hit]:
    lines = document.lines
    prose = {line.line for line in document.prose}
    for number, text in enumerate(lines, 1):
        match = _COUNT.search(text.rstrip()) if number in prose else None
        if match is None:
            continue
        claimed = _NUMBERS[(match[1] or match[2]).lower()]
        listed = _items(lines, number)
        # A list of more may be about something else, in a language without plurals.
        if 0 < listed < claimed or (listed > claimed and match[1]):
            word = match[1] or match[2]
            yield Hit(number, f"{word!r} are announced, and {listed} are listed")


def _items(lines: tuple[str, ...], after: int) -> int:
    """How many items the list has that begins behind a line; 0 when none begins there."""
    count, indent, blank = 0, -1, True
    for number, text in enumerate(lines[after:], after):
        if not text.strip():
            blank = True
            continue
        item = _ITEM.match(text)
        if item is None:
            # Directly behind an item, a line that is not indented still belongs to it.
            if count == 0 or (blank and len(text) - len(text.lstrip()) <= indent):
                return 0 if count and _goes_on(lines[number:], indent) else count
            continue
        blank = False
        if indent < 0:
            indent = len(item[1])
        if len(item[1]) < indent:
            break
        count += len(item[1]) == indent
    return count


def _goes_on(lines: tuple[str, ...], indent: int) -> bool:
    """Whether further items of a list follow what interrupts it, before the next heading."""
    for text in lines[:20]:
        item = _ITEM.match(text)
        if text.startswith("#"):
            return False
        if item is not None and len(item[1]) == indent:
            return True
    return False


def _numbering(document: Document) -> Iterator[Hit]:
    code = {
        number
        for block in document.blocks
        for number in range(block.line, block.first_line + block.text.count("\n") + 1)
    }
    before: dict[int, int] = {}
    for number, text in enumerate(document.lines, 1):
        if number in code or not text.strip():
            continue
        item = _ITEM.match(text)
        indent = len(text) - len(text.lstrip())
        if item is None or item[3] is None:
            before = {level: n for level, n in before.items() if level < indent}
            continue
        before = {level: n for level, n in before.items() if level <= indent}
        this, last = int(item[3]), before.get(indent)
        if last is not None and this > last + 1 and this < 50:
            yield Hit(number, f"item {this} follows item {last}")
        before[indent] = this


def _share(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    for line in document.prose:
        match = _SHARE.search(line.text)
        if match and not _COUNTED.search(line.text):
            yield Hit(line.line, f"{match[0]!r} of what, counted how?")


def _by_request(document: Document) -> Iterator[Hit]:
    pulls = any(call.verb == "pull" for call in container_calls(document))
    fetches = any(downloaded(command.argv) for command in document.commands)
    for line in document.prose:
        if not _REQUEST.search(line.text):
            continue
        public = (_IMAGE.search(line.text) and pulls) or (_WEIGHTS.search(line.text) and fetches)
        if public:
            yield Hit(line.line, "by request only, it says, and the commands download it publicly")


def _comment(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        for index, text in enumerate(block.text.split("\n")):
            setting = _SETTING.match(text)
            if setting is None:
                continue
            for key, unit in _COMMENTS:
                told = re.search(rf"(\d[\d,]*)\s+(?:\w+\s+)?{unit}\b", setting[3], re.I)
                if not re.search(key, setting[1], re.I) or told is None:
                    continue
                if int(told[1].replace(",", "")) != int(setting[2]):
                    yield Hit(
                        block.first_line + index,
                        f"{setting[1]} is {setting[2]}, its comment speaks of {told[0]}",
                    )


def _superlative(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    for line in document.prose:
        match = _SUPERLATIVE.search(line.text)
        if match is None:
            continue
        section = document.section_of(line.line)
        start = section.line if section else 0
        end = next((h.line for h in document.headings if h.line > line.line), 10**9)
        if not any(re.search(r"\d", p.text) for p in document.prose if start < p.line < end):
            yield Hit(line.line, f"{match[0]!r}, without a figure")


def _setting(document: Document) -> Iterator[Hit]:
    for line in document.prose:
        flag, least = _FLAG.search(line.text), _AT_LEAST.search(line.text)
        if flag is None or least is None:
            continue
        wanted = int(least[1].replace(",", ""))
        given = [
            int(value)
            for command in all_commands(document)
            for name, value in _options(command.argv)
            if name == flag[1] and value.isdigit()
        ]
        if given and max(given) < wanted:
            yield Hit(
                line.line,
                f"at least {wanted} for {flag[1]}, it says, and the commands give {max(given)}",
            )


def _options(argv: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for word, following in pairwise((*argv, "")):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            yield name, value if equals else following


def _folder(document: Document) -> Iterator[Hit]:
    starts = [call for call in container_calls(document) if call.starts]
    if not starts or not is_card(document):
        return
    mounts = [mount for call in starts for mount in call.mounts]
    for number, text in _sentences(document):
        match = _FOLDER.search(text)
        if match is None:
            continue
        folder = match[1].rstrip("/.")
        for mount in mounts:
            places = (mount.source.rstrip("/"), mount.target.rstrip("/"))
            if any(
                p and (f"{folder}/".startswith(f"{p}/") or p.startswith(f"{folder}/"))
                for p in places
            ):
                break
        else:
            yield Hit(number, f"the weights go to {folder}, and no container mounts it")


def _within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _sentences(document: Document) -> Iterator[tuple[int, str]]:
    for line in document.prose:
        yield line.line, line.text
    for block in document.blocks:
        for index, text in enumerate(block.text.split("\n")):
            if text.lstrip().startswith("#"):
                yield block.first_line + index, text


def _devices(document: Document) -> Iterator[Hit]:
    if any("ray start" in block.text for block in document.blocks):
        return
    for call in container_calls(document):
        if not call.starts:
            continue
        numbered = [
            (match[1], option.line)
            for option in call.all("device")
            if (match := _NUMBERED_DEVICE.match(option.value))
        ]
        if not numbered:
            continue
        for command in all_commands(document):
            options = dict(_options(command.argv))
            needed = _needed(options) if "serve" in command.argv else 0
            if needed > len(numbered):
                yield Hit(
                    numbered[0][1],
                    f"{len(numbered)} devices are passed in, line {command.line} takes {needed}",
                )
                break


def _needed(options: dict[str, str]) -> int:
    def size(*names: str) -> int:
        found = [int(options[name]) for name in names if options.get(name, "").isdigit()]
        return found[0] if found else 1

    ranks = size("--tensor-parallel-size", "-tp", "--tp") * size("--pipeline-parallel-size")
    ranks //= size("--nnodes")
    return ranks * size("--data-parallel-size-local", "--data-parallel-size")


RULES = (
    Rule(
        id="claims-count",
        severity="warning",
        title="More or fewer are listed than announced",
        why="Something was left out, or the sentence was taken from another card.",
        remedy="complete the list, or correct the number",
        check=_count,
    ),
    Rule(
        id="claims-numbering",
        severity="warning",
        title="A gap in a numbered list",
        why="A step was left out, or renderers number the rest anew and references to it go wrong.",
        remedy="number the items one by one",
        check=_numbering,
    ),
    Rule(
        id="claims-uncounted-share",
        severity="note",
        title="A share that nothing counts",
        why="Nobody can check it, and it stays when it is no longer true.",
        remedy="say how many of how many, and how they were counted",
        check=_share,
    ),
    Rule(
        id="claims-by-request",
        severity="warning",
        title="By request only, and yet public",
        why="Readers write mails for nothing, or believe that the download is not meant for them.",
        remedy="say which of both it is",
        check=_by_request,
    ),
    Rule(
        id="claims-comment",
        severity="warning",
        title="A comment that gives another number than its setting",
        why="One of them is wrong, and readers copy either.",
        remedy="correct the setting or the comment",
        check=_comment,
    ),
    Rule(
        id="claims-superlative",
        severity="note",
        title="Praise without a figure",
        why="A reader learns nothing from it.",
        remedy="give the figure, and what it was measured on",
        check=_superlative,
    ),
    Rule(
        id="claims-setting",
        severity="warning",
        title="The commands give less than the text asks for",
        why="Who runs the commands does not get the results that the text speaks of.",
        remedy="give the setting that the results were made with",
        check=_setting,
    ),
    Rule(
        id="claims-folder",
        severity="warning",
        title="The folder of the weights is not mounted",
        why="In the container the weights are missing, and are downloaded again or not found.",
        remedy="mount the folder: -v FOLDER:FOLDER",
        check=_folder,
    ),
    Rule(
        id="claims-devices",
        severity="warning",
        title="Fewer devices than the server takes",
        why="The server ends at once, or hangs while it waits for the missing ranks.",
        remedy="pass in as many devices as tensor, pipeline and data parallel sizes need",
        check=_devices,
    ),
)
