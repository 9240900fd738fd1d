"""Tokens and passwords by their well-known formats.

Most formats are those of the library detect-secrets (its plugins' expressions); the others are
documented by those who hand out the tokens: Hugging Face (``hf_``), Artifactory (``AKC``), GitLab
(``glpat-``), Docker Hub (``dckr_pat_``), PyPI (macaroons, ``pypi-AgE``), Google (``AIza``), OpenAI
and Anthropic (``sk-``), GitHub's fine-grained ones (``github_pat_``), ModelScope (``ms-`` and a
UUID). Nothing is guessed from entropy: what has no form of its own is found by value
(``values.py``).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector

from relforge.scanning.rules import Rule
from relforge.scanning.urls import URL_LOGIN

_LONGEST = 1024
_EXAMPLE = re.compile(
    r"example|sample|placeholder|dummy|redacted|changeme|your[_-]?", re.IGNORECASE
)
_RUN = re.compile(r"(.)\1{6}|0123456789|1234567890|abcdefghij", re.IGNORECASE)


def secret_rules() -> tuple[Rule, ...]:
    """All formats."""
    return (*_OF_LIBRARY, *_OWN, URL_LOGIN)


def _placeholder(token: str) -> bool:
    """Whether a token was typed by somebody who shows what one looks like."""
    return bool(_EXAMPLE.search(token) or _RUN.search(token)) or len(set(token)) < 10


def _format(
    name: str,
    what: str,
    anchors: Iterable[bytes],
    patterns: Iterable[re.Pattern[str]],
    *,
    accept: Callable[[str], bool] = lambda _token: True,
) -> Rule:
    """A rule of expressions whose match begins with an anchor."""
    known = tuple(patterns)
    # In bytecode what follows a text may be a letter, too: there an end is looked for as its own.
    within = tuple(re.compile(_END.sub("", p.pattern), p.flags) for p in known)

    def confirm(data: bytes, at: int) -> bool:
        # Latin-1 keeps every byte one character.
        window = data[at : at + _LONGEST].decode("latin-1")
        found = next((m for pattern in known if (m := pattern.match(window))), None)
        if found is None:
            found = next((m for pattern in within if (m := pattern.match(window))), None)
            if found is None or not _constant_ends(data, at + found.end()):
                return False
        if not _begins(data, at, found.end()):
            return False
        token = found.group(found.lastindex or 0)
        return not _placeholder(token) and accept(token)

    return Rule("secret", name, what, tuple(anchors), confirm)


_END = re.compile(r"\\b$|\(\?!\[A-Za-z0-9_\]\)$")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x80-\xff]")


_WORD = re.compile(rb"[A-Za-z0-9_]")


def _begins(data: bytes, at: int, length: int) -> bool:
    """Whether a word begins here; in bytecode the byte before a text is its length, which may be a
    letter, too. (In the symbols of compilers names stand one behind the other.)"""
    if at == 0 or not _WORD.match(data, at - 1):
        return True
    return at > 1 and data[at - 2] in b"zZ\xda\xfa" and data[at - 1] >= length


def _constant_ends(data: bytes, at: int) -> bool:
    """Whether a constant of bytecode ends here (format: CPython's marshal): the next one begins.

    A short text is `z` or `Z`, its length, and the text; numbers, references and longer texts have
    bytes that no text has. In a table of texts without ends, as compilers make, this is not so.
    """
    if _CONTROL.search(data, at, at + 5) is not None:
        return True
    if data[at : at + 1] not in (b"z", b"Z") or at + 1 >= len(data):
        return False
    following = at + 2 + data[at + 1]
    return _CONTROL.search(data, at + 2, following + 1) is None and _CONTROL.search(
        data, following, following + 6
    ) is not None  # fmt: skip


def _patterns(plugin: Any) -> tuple[re.Pattern[str], ...]:
    return tuple(plugin.denylist)


def _own(name: str, what: str, anchor: str, rest: str) -> Rule:
    # What follows a token is no further character of one, else it is a longer word.
    pattern = re.compile(re.escape(anchor) + rest + r"(?![A-Za-z0-9_])")
    return _format(name, what, [anchor.encode()], [pattern], accept=_mixed)


def _mixed(token: str) -> bool:
    """Random characters, other than the words of an identifier: digits, or letters of both cases
    in about equal numbers (of 34 random letters fewer than 6 are of one case once in 10,000)."""
    body = re.split(r"[_-]", token, maxsplit=1)[-1]
    upper, lower = sum(map(str.isupper, body)), sum(map(str.islower, body))
    if upper and lower and len(body) > 30:
        return min(upper, lower) >= 6
    return any(map(str.isdigit, body)) and upper + lower > 0


def _claims(token: str) -> bool:
    """Whether a web token says who it is for, or when it ends, as those that open something do."""
    head, payload, signature = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        return False
    # The example of RFC 7519 and jwt.io stands in many manuals.
    known = isinstance(claims, dict) and claims.get("sub") != "1234567890"
    return known and bool(signature) and not _REGISTERED.isdisjoint(claims)


_REGISTERED = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})
_AWS_KEY_ID = _patterns(AWSKeyDetector())[0]

_OF_LIBRARY = (
    _format("aws-access-key", "an AWS access key",
            (b"AKIA", b"ASIA", b"ABIA", b"ACCA"), [_AWS_KEY_ID]),
    _format("azure-storage-key", "an Azure storage key", [b"AccountKey="],
            [re.compile("AccountKey=" + p.pattern) for p in _patterns(AzureStorageKeyDetector())]),
    _format("github-token", "a GitHub token", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
            [re.compile(p.pattern.replace("(ghp|", "(?:ghp|"))
             for p in _patterns(GitHubTokenDetector())]),
    _format("jwt", "a JSON web token", [b"eyJ"], _patterns(JwtTokenDetector()),
            accept=lambda token: token.count(".") == 2 and _claims(token)),
    _format("npm-token", "an npm token", (b"npm_", b"_authToken"), _patterns(NpmDetector())),
    _format("sendgrid-key", "a SendGrid API key", [b"SG."], _patterns(SendGridDetector())),
    _format("slack-token", "a Slack token or webhook", (b"xox", b"https://hooks.slack.com/"),
            _patterns(SlackDetector())),
    _format("square-secret", "a Square OAuth secret", [b"sq0csp-"],
            _patterns(SquareOAuthDetector())),
    _format("stripe-key", "a Stripe live key", (b"sk_live_", b"rk_live_"),
            _patterns(StripeDetector())),
)  # fmt: skip

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OWN = (
    _own("artifactory-key", "an Artifactory API key", "AKC", r"[A-Za-z0-9]{64,80}"),
    _own("huggingface-token", "a Hugging Face token", "hf_", r"[A-Za-z0-9]{34}"),
    _own("modelscope-token", "a ModelScope token", "ms-", _UUID),
    _own("github-token", "a GitHub token", "github_pat_", r"[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    _own("gitlab-token", "a GitLab token", "glpat-", r"[A-Za-z0-9_-]{20,40}"),
    _own("docker-token", "a Docker Hub token", "dckr_pat_", r"[A-Za-z0-9_-]{27}"),
    _own("pypi-token", "a PyPI token", "pypi-AgE", r"[A-Za-z0-9_-]{50,}"),
    _own("google-api-key", "a Google API key", "AIza", r"[A-Za-z0-9_-]{35}"),
    _own("openai-key", "an OpenAI key", "sk-", r"(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,74}"
         r"T3BlbkFJ[A-Za-z0-9_-]{20,74}"),
    _own("anthropic-key", "an Anthropic key", "sk-ant-", r"[a-z0-9]+-[A-Za-z0-9_-]{80,120}"),
)  # fmt: skip
