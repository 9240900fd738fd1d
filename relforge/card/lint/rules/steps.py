"""Steps that a reader would need, or that do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relforge.card.lint.document import Document
from relforge.card.lint.finding import Hit, Rule
from relforge.card.lint.kind import (
    all_commands,
    container_calls,
    has_hub_head,
    is_deployment,
)
from relforge.card.lint.rules.identity import downloaded
from relforge.card.lint.shell import Command

_SERVE = re.compile(r"^(?:serve|start_server|.*launch_server|.*api_server)$")
_REQUEST = re.compile(
    r"\bcurl\b|\bwget\b|/v1/|openai|requests\.(?:post|get)|localhost:|127\.0\.0\.1:|InferenceClient"
)
_HUB_ID = re.compile(r"^[A-Za-z][\w.-]*/[A-Za-z][\w.-]*$")
_HUB_LINK = re.compile(r"huggingface\.co|hf\.co|modelscope\.(?:cn|ai)|hf-mirror\.com")
_SEVERAL = re.compile(
    r"\b(?:two|three|four|eight|sixteen|[2-9]|1\d|32|64) "
    r"(?:machines?|nodes?|hosts?|servers?)(?![a-z])|[两三四八]台|[2-9]\s*(?:台|个节点)|多机",
    re.I,
)
_MEETS = re.compile(
    r"hostfile|nnodes|node[_-]?rank|ray start|dist-init-addr|master[_-]?addr|--address|--ips|"
    r"_IPS?\b|data-parallel-address|mpirun|--headless|\bssh\b|kubectl|nodelist|MASTER",
    re.I,
)
_NOT_RUN = re.compile(r"\bnot[ -]run\b|未运行", re.I)
_RANKS = re.compile(r"--node[_-]rank[ =](\d+)")
_NNODES = re.compile(r"--nnodes[ =](\d+)")
_RANK_COUNT = 2
_NODE_COMMENT = re.compile(r"^\s*#\s*(?:node|machine|host)[ _-]?\d+\b", re.I)
_NODE = re.compile(r"\d+")


def _serving(document: Document) -> Iterator[Command]:
    for command in all_commands(document):
        # Not `bench serve`: that asks a server.
        if any(_SERVE.match(word) for word in command.argv[:4]) and "bench" not in command.argv[:3]:
            yield command


def _no_request(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    started = list(_serving(document))
    if started and not any(_REQUEST.search(block.text) for block in document.blocks):
        yield Hit(started[-1].line, "a server is started, and no request shows that it answers")


def _no_weights(document: Document) -> Iterator[Hit]:
    # Behind front matter the weights lie in the card's own repository.
    if not is_deployment(document) or has_hub_head(document):
        return
    commands = all_commands(document)
    named = any(downloaded(c.argv) or any(_HUB_ID.match(w) for w in c.argv[1:]) for c in commands)
    linked = any(
        _HUB_LINK.search(link.target) and _is_model(link.target) for link in document.links
    )
    started = list(_serving(document))
    if started and not named and not linked and not _weights_named(document):
        yield Hit(
            started[0].line, "a model is served, and nothing says where its weights come from"
        )


def _is_model(target: str) -> bool:
    return bool(_HUB_LINK.search(target)) and "mailto" not in target and target.count("/") >= 4


def _weights_named(document: Document) -> bool:
    return any(
        re.search(r"(?:weights?|model)\b.*[\s`]/[a-z][\w/.-]+", p.text) for p in document.prose
    )


def _nodes(document: Document) -> Iterator[Hit]:
    if not is_deployment(document):
        return
    code = "\n".join(block.text for block in document.blocks)
    if not _MEETS.search(code):
        for line in document.prose:
            match = _SEVERAL.search(line.text)
            if match and not _NOT_RUN.search(line.text):
                yield Hit(line.line, f"{match[0]}, and no command says how they meet")
                return
    if not _NNODES.search(code):
        return
    ranks = {int(rank) for rank in _RANKS.findall(code)}
    for command in all_commands(document):
        count = _NNODES.search(command.raw)
        ranked = re.search(r"node[-_]rank", command.raw) is not None
        if count and ranked and 0 < len(ranks) < int(count[1]):
            yield Hit(command.line, f"the command of {len(ranks)} of {count[1]} nodes is shown")
            return


def _identical_nodes(document: Document) -> Iterator[Hit]:
    for block in document.blocks:
        lines = block.text.split("\n")
        heads = [i for i, text in enumerate(lines) if _NODE_COMMENT.match(text)]
        if len(heads) < _RANK_COUNT or not block.is_shell:
            continue
        parts = [
            re.sub(r"[\s\\]+", "", "".join(lines[at + 1 : end]))
            for at, end in zip(heads, [*heads[1:], len(lines)], strict=True)
        ]
        for index in range(1, len(parts)):
            if parts[index] and parts[index] == parts[0]:
                first = block.first_line + heads[index] + 1
                starts = [c.line for c in block.commands if c.line >= first and _starts(c)]
                told = "these commands are the other node's, word for word: no rank, no address"
                yield Hit(starts[0] if starts else first, told)


def _starts(command: Command) -> bool:
    return "run" in command.argv[1:2] or "serve" in command.argv


def _export(document: Document) -> Iterator[Hit]:
    exported: dict[str, int] = {}
    for command in document.commands:
        if command.program == "export":
            for word in command.words[1:]:
                name = word.text.partition("=")[0]
                exported[name] = exported.get(name, 0) + 1
    for command in document.commands:
        for name, _ in command.assigned if not command.words else ():
            if exported.get(name, 0) >= _RANK_COUNT:
                yield Hit(
                    command.line, f"{name} is set and not exported; the other steps export it"
                )


def _env_not_passed(document: Document) -> Iterator[Hit]:
    """Variables that only the host knows, where everything that could read them is a container."""
    calls = [call for call in container_calls(document) if call.starts]
    if not calls or not is_deployment(document):
        return
    first = min(call.command.line for call in calls)
    last = max(call.command.line for call in calls)
    passed = " ".join(o.value for c in calls for o in c.all("env", "env-file", "e"))
    if any(c.all("env-file") for c in calls):
        return
    started = {call.command for call in calls}
    for command in document.commands:
        if command.program != "export" or command.line > last:
            continue
        readers = [
            c
            for c in document.commands
            if c.line > command.line and c not in started and c.program not in _NO_READERS
        ]
        near = [c for c in readers if c.line < first or c.block_line == command.block_line]
        if near:
            continue
        for word in command.words[1:]:
            name, equals, _ = word.text.partition("=")
            used = re.search(rf"\$\{{?{name}\b", _others(document, command))
            if equals and not used and not re.search(rf"(?<!\w){name}(?!\w)", passed):
                yield Hit(command.line, f"{name} is set on the host, and no container gets it")


_NO_READERS = frozenset(
    {"export", "docker", "podman", "nerdctl", "ping", "echo", "cd", "mkdir", "readonly", "", "curl"}
)


def _others(document: Document, own: Command) -> str:
    return "\n".join(c.raw for c in document.commands if c is not own)


def _program_spelling(document: Document) -> Iterator[Hit]:
    plain: set[str] = set()
    scripts: list[tuple[int, str]] = []
    for command in all_commands(document):
        argv = command.argv
        if argv and re.fullmatch(r"\w+", argv[0]):
            plain.add(argv[0])
        if len(argv) > 1 and argv[0] in ("bash", "sh") and re.fullmatch(r"\w+\.sh", argv[1]):
            scripts.append((command.line, argv[1]))
    for line, script in scripts:
        if script.removesuffix(".sh") in plain:
            told = f"`bash {script}` here, `{script.removesuffix('.sh')}` elsewhere"
            yield Hit(line, told)


RULES = (
    Rule(
        id="steps-no-request",
        severity="note",
        title="A server that is never asked",
        why="Readers do not know address, port and model name, nor whether the server works.",
        remedy="show a request, and what it answers",
        check=_no_request,
    ),
    Rule(
        id="steps-no-weights",
        severity="warning",
        title="Weights that come from nowhere",
        why="A reader cannot start the server.",
        remedy="show the download, and the folder that the server reads",
        check=_no_weights,
    ),
    Rule(
        id="steps-nodes",
        severity="warning",
        title="Several machines, and no word of how they meet",
        why="The server waits for the other machines until it gives up.",
        remedy="show the command of every node, with rank and address",
        check=_nodes,
    ),
    Rule(
        id="steps-identical-nodes",
        severity="note",
        title="Two nodes are started by the same command",
        why="Readers cannot tell whether a rank or an address was forgotten.",
        remedy="show the command once and say that it is for all nodes; or give each its rank",
        check=_identical_nodes,
    ),
    Rule(
        id="steps-export",
        severity="note",
        title="A variable that is set, and elsewhere exported",
        why="Programs that are started from the shell do not see it.",
        remedy="export it, as the other steps do",
        check=_export,
    ),
    Rule(
        id="steps-env-not-passed",
        severity="warning",
        title="A variable that no container gets",
        why="A container has its own environment: the setting has no effect.",
        remedy="pass it on: docker run -e NAME",
        check=_env_not_passed,
    ),
    Rule(
        id="steps-program-spelling",
        severity="warning",
        title="One program in two spellings",
        why="One of them is not there.",
        remedy="call it alike everywhere",
        check=_program_spelling,
    ),
)
