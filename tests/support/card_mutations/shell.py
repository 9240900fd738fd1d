"""Faults of shell blocks and of YAML."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.support.card_mutations import Mutation, replaced

_SHELL_BEGIN = r"^```bash\n"


def _first_line_of_block(line: str) -> Callable[[str], str | None]:
    """Puts a line at the begin of the first block of bash."""
    return replaced(_SHELL_BEGIN, lambda match: match[0] + line + "\n")


def _last_line_of_block(line: str) -> Callable[[str], str | None]:
    """Puts a line at the end of the first block of bash."""
    return replaced(r"^```bash\n(?:(?!```).*\n)+", lambda match: match[0] + line + "\n")


def _new_block(text: str, language: str = "bash") -> Callable[[str], str | None]:
    """A block of its own, before the first block of bash."""
    return replaced(_SHELL_BEGIN, lambda match: f"```{language}\n{text}\n```\n\n{match[0]}")


def _without_language(text: str) -> str | None:
    return replaced(_SHELL_BEGIN, "```\n")(text)


def _doubled_key(text: str) -> str | None:
    """Repeats the first key of a YAML block, with its value, at the end of the block."""
    match = re.search(r"^```yaml\n((\w[\w-]*:)(?: .*)?\n(?:(?!```).*\n)*)```", text, re.M)
    if match is None:
        return None
    at = match.end(1)
    return text[:at] + match[2] + " again\n" + text[at:]


MUTATIONS = (
    Mutation("shell-syntax", "a quote is lost", replaced(r"""(-d '\{.*\})'$""", r"\1")),
    Mutation(
        "shell-syntax", "a loop is not ended", _last_line_of_block("for n in 1 2; do echo $n")
    ),
    Mutation("shell-syntax", "a bracket too many", _last_line_of_block("(cd /tmp))")),
    Mutation(
        "shell-syntax",
        "a heredoc is not ended",
        _last_line_of_block("cat > /tmp/notes.txt <<TEXT\nnotes"),
    ),
    Mutation(
        "shell-prose",
        "a sentence above the commands",
        _first_line_of_block("Check that the driver is loaded before you go on"),
    ),
    Mutation("shell-prose", "a remark", _last_line_of_block("NOTE: this takes ten minutes")),
    Mutation("shell-prose", "a Chinese sentence", _last_line_of_block("请先安装驱动程序")),
    Mutation(
        "shell-prose",
        "a folder tree",
        _last_line_of_block("models/\n├── config.json\n└── weights.bin"),
    ),
    Mutation(
        "shell-prose",
        "YAML below the command",
        _last_line_of_block("server:\n  workers: 4\n  log: info"),
    ),
    Mutation(
        "shell-glued-continuation",
        "before a value",
        replaced(r"^(docker run .*\S) \\\n  (?=-)", r"\1\\\n"),
        along=frozenset(
            {"flow-image", "supply-mutable-tag", "claims-variants"}
        ),  # the option that was lost leaves its value behind
    ),
    Mutation(
        "shell-glued-continuation",
        "after quotes",
        _last_line_of_block('echo "ready"\\\n-n'),
    ),
    Mutation(
        "shell-broken-continuation",
        "blanks after the backslash",
        replaced(r"^(docker run .*) \\$", r"\1 \\  "),
        along=frozenset({"flow-weights", "flow-port", "shell-unset-variable"}),
    ),
    Mutation(
        "shell-broken-continuation",
        "a comment in between",
        replaced(r"^(docker run .* \\)\n  (?=-)", r"\1\n  # the weights\n  "),
        along=frozenset({"flow-weights"}),
    ),
    Mutation("shell-broken-continuation", "at the end", _last_line_of_block("date \\")),
    Mutation("shell-fence-language", "commands", _without_language),
    Mutation("shell-fence-language", "YAML", replaced(r"^```ya?ml$", "```")),
    Mutation(
        "shell-fence-language",
        "settings",
        _new_block("log:\n  level: info\n  file: /var/log/serve.log\nworkers: 2", ""),
    ),
    Mutation("shell-unset-variable", "used", _last_line_of_block('ls "$RESULT_FOLDER"')),
    Mutation(
        "shell-unset-variable",
        "set below",
        _first_line_of_block("echo ${BATCH_SIZE}\nexport BATCH_SIZE=4"),
    ),
    Mutation("shell-unset-variable", "an argument", _last_line_of_block("COUNT=$1\necho $COUNT")),
    Mutation("shell-unset-variable", "its line is gone", replaced(r"^export [A-Z]+=[\w/].*\n", "")),
    Mutation("shell-bad-default", "a word", _first_line_of_block("MODE=${MODE:fast}\necho $MODE")),
    Mutation(
        "shell-bad-default", "a number", _first_line_of_block("LIMIT=${LIMIT:4096}\necho $LIMIT")
    ),
    Mutation(
        "shell-bad-default", "a path", _first_line_of_block("CACHE=${CACHE:/tmp/c}\necho $CACHE")
    ),
    Mutation("shell-readonly", "assigned", _first_line_of_block("readonly LIMIT=4\necho $LIMIT")),
    Mutation("shell-exit", "a guard", _first_line_of_block("which ip || exit 1")),
    Mutation("shell-placeholder", "angled", _last_line_of_block("ping -c 1 <server>")),
    Mutation("shell-placeholder", "quoted", _last_line_of_block("ping -c 1 '<server name>'")),
    Mutation("shell-placeholder", "x", _last_line_of_block("ping -c 1 xxxx")),
    Mutation("shell-placeholder", "yours", _last_line_of_block("serve-client --user YOUR_NAME")),
    Mutation(
        "shell-placeholder",
        "a substitution of a documentation tool",
        _last_line_of_block("serve-client --version v|release|"),
    ),
    Mutation(
        "shell-placeholder",
        "no address",
        _last_line_of_block("export PEER_IP=peer_host\necho $PEER_IP"),
    ),
    Mutation("shell-placeholder", "a path", _last_line_of_block("ls /path/to/weights")),
    Mutation(
        "shell-missing-dollar",
        "in a path",
        _last_line_of_block("export RESULTS=/srv/results\nls /RESULTS/today"),
    ),
    Mutation(
        "yaml-syntax",
        "a list without marks",
        _new_block("steps:\nfirst\nsecond: 2\nthird: 3", "yaml"),
    ),
    Mutation("yaml-syntax", "a tab", _new_block("server:\n\tport: 1", "yaml")),
    Mutation("yaml-syntax", "a colon is lost", replaced(r"^(```yaml\n\w+):(.*)\n", r"\1\2\n")),
    Mutation(
        "yaml-repeated-key", "in a list", _new_block("- name: one\n  size: 2\n  size: 3", "yaml")
    ),
    Mutation("yaml-repeated-key", "a key of the card's own", _doubled_key),
)
