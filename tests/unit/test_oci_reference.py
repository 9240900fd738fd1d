"""Registry targets as users type them."""

from __future__ import annotations

import pytest

from relforge.errors import ExitCode, RelforgeError
from relforge.oci.reference import Repository


@pytest.mark.parametrize(
    ("text", "host", "name"),
    [
        ("registry.example.org/team/model", "registry.example.org", "team/model"),
        ("localhost/a", "localhost", "a"),
        ("127.0.0.1:5000/a/b_c/d--e", "127.0.0.1:5000", "a/b_c/d--e"),
        ("[::1]:5000/ab", "[::1]:5000", "ab"),
    ],
)
def test_host_and_name(text: str, host: str, name: str) -> None:
    repository = Repository.parse(text)
    assert (repository.host, repository.name) == (host, name)
    assert str(repository) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model",
        "team/model",
        "registry.example.org/",
        "registry.example.org/Team/model",
        "registry.example.org/a//b",
        "registry.example.org/a:tag",
        "registry.example.org/a@sha256:" + "0" * 64,
        "https://registry.example.org/a",
        "registry.example.org/a b",
        "user:word@registry.example.org/a",
        "-x.org/a\n",
        "registry.example.org/" + "a" * 300,
    ],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RelforgeError) as caught:
        Repository.parse(text)
    assert caught.value.code is ExitCode.USAGE
    assert "HOST/NAME" in (caught.value.hint or "")
