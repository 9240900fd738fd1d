"""Registry targets as users type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.manifest.site_file import load_site
from relforge.oci.opening import open_store
from relforge.oci.reference import Reference, Repository
from relforge.oci.registry import RegistryStore


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


SECRET = "horse/battery@staple"
LOGINS = [
    f"https://bob:{SECRET}@registry.example.org/x:v1",
    f"bob:{SECRET}@registry.example.org/x",
    f"bob:{SECRET}@registry.example.org:5000/x:v1@sha256:{'0' * 64}",
    f"bob:{SECRET}@registry.example.org",
    f"{SECRET}@registry.example.org/x",
    "bob:horsebattery@registry.example.org/x",
    "bob:hb@registry.x/y",
]


@pytest.mark.parametrize("text", LOGINS)
@pytest.mark.parametrize(
    "read", [Reference.parse, Repository.parse, lambda t: open_store(t, Site())]
)
def test_a_login_is_refused_and_not_repeated(text: str, read: Callable[[str], object]) -> None:
    with pytest.raises(RelforgeError) as caught:
        read(text)
    error = caught.value
    assert error.code is ExitCode.USAGE
    assert error.what == "the name of an image holds no login"
    said = f"{error.what} {error.where} {error.why} {error.hint}"
    assert "horse" not in said
    assert "bob" not in said
    # What other messages hold it is redacted, too, also as it stands in a URL.
    password = text.partition("bob:")[2].partition("@registry")[0]
    if len(password) >= 6:
        assert password not in redact.text(f"trying {password} and {text}")
        assert quote(password, safe="") not in redact.text(f"trying {quote(password, safe='')}")


@pytest.mark.parametrize(
    "text", ["registry.example.org/x@v1", "registry.example.org/x:v1@sha256:12", "bob@localhost"]
)
def test_what_is_no_digest_is_no_login(text: str) -> None:
    with pytest.raises(RelforgeError, match="is not a"):
        Reference.parse(text)


def test_a_path_may_hold_the_sign(tmp_path: Path) -> None:
    for name in ("a:b@c", "deep/a:b@c.tar"):
        store, _ = open_store(str(tmp_path / name), Site())
        assert not isinstance(store, RegistryStore)


@pytest.mark.parametrize("field", ["release", "candidate"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("bob:horsebattery@h.example/{model}", "holds no login"),
        ("https://bob:horsebattery@h.example/{model}", "holds no login"),
        ("https://h.example/{model}", "is no URL"),
    ],
)
def test_a_target_holds_no_login(tmp_path: Path, field: str, value: str, says: str) -> None:
    target = {"kind": "registry", "release": "h.example/x", field: value}
    path = tmp_path / "site.yaml"
    path.write_text(json.dumps({"kind": "site", "publish": {"targets": {"hub": target}}}))
    with pytest.raises(RelforgeError) as caught:
        load_site(path)
    assert caught.value.code is ExitCode.USAGE
    said = f"{caught.value}\n{caught.value.what}\n{caught.value.why}"
    assert says in said
    assert "horse" not in said
    assert says in redact.text(said)
