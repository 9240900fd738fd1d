"""Parts of git publishing that need no server."""

from __future__ import annotations

import re

import pytest
import yaml

from relforge.manifest.project import builtin_root
from relforge.manifest.publishing import GitTarget, PublishSite
from relforge.publishing.targets import git_withdrawn
from relforge.publishing.targets.git_remote import sent_bytes
from relforge.publishing.targets.github_api import _message

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_the_example_of_the_docs_is_a_site_configuration() -> None:
    text = (builtin_root() / "docs" / "publishing-git.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    target = PublishSite.model_validate(yaml.safe_load(shown)["publish"]).targets["pages"]
    assert isinstance(target, GitTarget)
    assert target.github is not None


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ("Writing objects: 100% (3/3), 269 bytes | 269.00 KiB/s, done.", 269),
        ("Writing objects:  50% (1/2)\rWriting objects: 100% (2/2), 1.50 KiB | 2 KiB/s", 1536),
        ("Writing objects: 100% (9/9), 2.00 MiB | 1.00 MiB/s, done.", 2 << 20),
        ("Everything up-to-date", 0),
    ],
)
def test_bytes_are_those_that_git_counts(progress: str, expected: int) -> None:
    assert sent_bytes(progress) == expected


def test_withdrawals_are_listed_one_by_one_and_read_back() -> None:
    first = git_withdrawn.listed_with(None, DIGEST, "2026-01-01", "a | bar\nand a line")
    both = git_withdrawn.listed_with(first, OTHER, "2026-02-01", "old")
    assert git_withdrawn.withdrawn(both, DIGEST) == ("2026-01-01", "a | bar and a line")
    assert git_withdrawn.withdrawn(both, OTHER) == ("2026-02-01", "old")
    assert git_withdrawn.withdrawn(first, OTHER) is None
    assert git_withdrawn.withdrawn(None, DIGEST) is None


@pytest.mark.parametrize("head", ["", "---\nlicense: mit\n---\n"])
def test_a_notice_stands_below_the_front_matter_and_once(head: str) -> None:
    card = f"{head}\n# A card\n".encode()
    marked = git_withdrawn.card_with("README.md", card, DIGEST, "2026-01-01", "wrong.")
    text = marked.decode()
    assert text.startswith(head or "\n<!--")
    assert text.index("Do not use this release: wrong.") < text.index("# A card")
    assert git_withdrawn.card_with("README.md", marked, DIGEST, "2026-01-02", "x") == marked


def test_what_github_says_is_its_message_with_the_fields() -> None:
    body = b'{"message": "Validation Failed", "errors": [{"code": "already_exists"}, "more"]}'
    assert _message(body) == "Validation Failed already_exists more"
    assert _message(b"<html>bad gateway</html>") == "<html>bad gateway</html>"
    assert _message(b"[]") == "[]"
