"""Slips of writing, links that lead nowhere, Python that is wrong."""

from __future__ import annotations

from tests.support.card_mutations import Mutation, appended, replaced
from tests.support.card_mutations.parts import OF_A_MODEL, block, where


def _python(code: str) -> str:
    return block("python", code)


MUTATIONS = (
    Mutation("text-double-blank", "in a sentence", appended("The answer  is short.\n")),
    Mutation("text-double-blank", "in a heading", appended("## What  follows\n\nNothing.\n")),
    Mutation(
        "text-double-blank",
        "in a command",
        where(OF_A_MODEL, appended(block("bash", "ls  /srv"))),
    ),
    Mutation("text-glued-words", "mail", appended("Write to help@example.comContact us.\n")),
    Mutation("text-glued-words", "site", appended("More on pages.example.orgPlease read it.\n")),
    Mutation(
        "text-empty-header",
        "first column",
        where(OF_A_MODEL, appended("| | Purpose |\n|---|---|\n| a | test |\n")),
    ),
    Mutation(
        "text-repeated-comment",
        "twice in a row",
        appended(block("bash", "# choose the folder first\n# Choose the folder first.\nls")),
    ),
    Mutation(
        "text-repeated-comment",
        "the first one longer",
        appended(block("bash", "# choose the folder for all\n# look\n# choose the folder\nls")),
    ),
    Mutation("text-grammar", "singular", appended("It needs three container.\n")),
    Mutation("text-grammar", "participle", appended("You can using it at once.\n")),
    Mutation("text-directive", "colons", appended(":::{note}\nRead this.\n:::\n")),
    Mutation("text-directive", "fence", appended("```{code-block} text\nsome text\n```\n")),
    Mutation(
        "text-directive",
        "substitution",
        appended("```{code-block} text\nversion |release_number|\n```\n"),
    ),
    Mutation("text-tree", "two last", appended(block("text", "top/\n└── one\n└── two"))),
    Mutation(
        "text-tree",
        "deeper",
        appended(block("text", "top/\n├── one\n│   └── two\n│   └── three\n└── four")),
    ),
    Mutation("text-last-line", "cut", lambda text: text.rstrip("\n")),
    Mutation(
        "text-number-term",
        "words",
        appended("The two-node setup is common. A dual-node setup costs more.\n"),
    ),
    Mutation(
        "text-number-term",
        "case",
        appended("The single-GPU case is simple. That of a single-gpu host, too.\n"),
    ),
    Mutation("links-missing-target", "page", appended("See [the rest](rest/of-it.md).\n")),
    Mutation("links-missing-target", "image", appended("![group](img/group.png)\n")),
    Mutation("links-mailto", "in a path", appended("[Write](https://example.org/a/mailto%3Ab@c.io).\n")),
    Mutation("links-mailto", "escaped", appended("[Write to us](mailto%3Ahelp@example.org).\n")),
    Mutation(
        "links-text-target",
        "mail",
        appended("[help@example.org](https://example.org/contact)\n"),
    ),
    Mutation("links-text-target", "site", appended("[https://example.org](https://example.net)\n")),
    Mutation("links-malformed", "one slash", appended("[Docs](https:/example.org/docs).\n")),
    Mutation("links-malformed", "no scheme", appended("[Docs](www.example.org/docs).\n")),
    Mutation("links-malformed", "empty", appended("[Docs]().\n")),
    Mutation(
        "links-one-target",
        "three names",
        appended("[A](https://home.example.org/), [B](https://home.example.org), "
                 "[C](https://home.example.org/).\n"),
    ),
    Mutation("python-f-string", "plain", appended(_python('print(f"hello")'))),
    Mutation("python-f-string", "argument", appended(_python('open(file=f"/srv/list")'))),
    Mutation("python-indentation", "call", appended(_python("ask(\n    one=1,\n  two=2,\n)"))),
    Mutation(
        "python-base-url",
        "chat",
        appended(_python('client = openai.OpenAI(base_url="http://server.example.org/v1/chat/completions")')),
    ),
    Mutation(
        "python-base-url",
        "formatted",
        appended(_python('client = openai.Client(base_url=f"http://{host}/v1/completions/")')),
    ),
    Mutation(
        "python-setup-command",
        "typing error",
        appended(block("bash", "python3 setup.py bdsit_wheel")),
    ),
    Mutation(
        "steps-payload",
        "chat",
        replaced(r'(/chat/completions[^`]*?)"messages":', r'\1"text":'),
    ),
    Mutation(
        "steps-payload",
        "completion",
        replaced(r'(v1/completions[^`]*?)"prompt":', r'\1"input":'),
    ),
)  # fmt: skip
