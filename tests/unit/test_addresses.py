"""Secrets in addresses: settings refuse them without repeating them, and nothing shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relforge import redact
from relforge.addresses import hide_credentials, login, secret_parameters, shown, without_secrets
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.device import Device
from relforge.manifest.hosts import Nodes
from relforge.manifest.loader import parse
from relforge.manifest.release import Release
from relforge.manifest.site import Site
from relforge.ui.text import error as error_text
from tests.unit.test_manifest_loader import DEVICE, RELEASE

MARK = "Q7c0ffee42Zx"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a message must not say, it must not say because it was registered either.
    monkeypatch.setattr(redact, "_secrets", set())


def git_target(url: str) -> Any:
    return {"publish": {"targets": {"x": {"kind": "git", "url": url}}}}


def github(url: str) -> Any:
    api = {"repository": "a/b", "token_file": "t", "api": url}
    return {"publish": {"targets": {"x": {"kind": "git", "url": "/srv/x", "github": api}}}}


def mirrored(key: str, side: str) -> Any:
    def settings(url: str) -> Any:
        mirror = {"prefix": "https://h.example/", "to": "https://h.example/"}
        if key == "index_mirrors":
            return {"python": {key: [{**mirror, side: url}]}}
        return {key: [{**mirror, side: url}]}

    return settings


PLACES: dict[str, Any] = {
    "git target": git_target,
    "github.api": github,
    "git_mirrors to": mirrored("git_mirrors", "to"),
    "git_mirrors prefix": mirrored("git_mirrors", "prefix"),
    "index_mirrors to": mirrored("index_mirrors", "to"),
    "index_mirrors prefix": mirrored("index_mirrors", "prefix"),
    "torch_cpu_index": lambda url: {"python": {"torch_cpu_index": url}},
    "find_links": lambda url: {"python": {"find_links": [url]}},
    "huggingface": lambda url: {"hubs": {"huggingface": {"endpoint": url}}},
    "modelscope": lambda url: {"hubs": {"modelscope": {"endpoint": url}}},
    "apt_mirror": lambda url: {"apt_mirror": url},
    "ubuntu_mirror": lambda url: {"ubuntu_mirror": url},
    "proxy": lambda url: {"proxy": {"https": url}},
    "engine.host": lambda url: {"engine": {"host": url}},
    "images": lambda url: {"images": {url: "/x.tar"}},
    "registry": lambda url: {"publish": {"targets": {"x": {"kind": "registry", "release": url}}}},
    "registry_mirrors": lambda url: {"registry_mirrors": [{"prefix": "docker.io/", "to": url}]},
}
URLS = (
    f"https://me:{MARK}@h.example",
    f"https://{MARK}@h.example",
    f"https://me:pa/{MARK}@h.example",
    f"https://h.example?private_token={MARK}",
    f"https://h.example#access_token={MARK}",
    f"https://h.example/?X-Amz-Signature={MARK}&a=1",
    f"https://h.example?a=1;sig={MARK}",
)


def fault(text: str, model: type[Frozen]) -> str:
    with pytest.raises(RelforgeError) as caught:
        parse(text, Path("x.yaml"), model)
    assert caught.value.code is ExitCode.USAGE
    return error_text(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_a_site_refuses_a_secret_in_an_address_and_does_not_repeat_it(place: str) -> None:
    for url in URLS:
        if place == "engine.host" and url == URLS[1]:
            url = f"ssh://me:{MARK}@h.example"  # a user name alone is usual there
        said = fault(json.dumps({"kind": "site", **PLACES[place](url)}), Site)
        assert MARK not in said, url
        assert "[redacted]" in said or "got" not in said, url


@pytest.mark.parametrize("url", URLS)
def test_manifests_refuse_it_too(url: str) -> None:
    git = RELEASE.replace("https://git.example", url)
    index = DEVICE.replace("package_index: default", f"package_index: '{url}'")
    for text, model in ((git, Release), (index, Device)):
        assert text not in (RELEASE, DEVICE)
        assert MARK not in fault(text, model)
    node = {"name": "a", "context": url.replace("https", "tcp")}
    assert MARK not in fault(json.dumps({"kind": "nodes", "nodes": [node]}), Nodes)


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (git_target(URLS[0]), "credential helper"),
        (git_target(URLS[3]), "credential helper"),
        (PLACES["torch_cpu_index"](URLS[0]), "netrc"),
        (PLACES["find_links"](URLS[0]), "pip.conf"),
        (PLACES["huggingface"](URLS[3]), "token_file"),
        (PLACES["proxy"](URLS[0]), "password_file"),
        (PLACES["apt_mirror"](URLS[0]), "a mirror without one"),
        (PLACES["registry"](f"me:{MARK}@h.example/x"), "docker login"),
    ],
)
def test_the_message_says_where_it_belongs(settings: Any, remedy: str) -> None:
    assert remedy in fault(json.dumps({"kind": "site", **settings}), Site)


@pytest.mark.parametrize(
    "settings",
    [
        *(
            git_target(url)
            for url in (
                "git@h.example:a/b.git", "ssh://git@h.example/a.git", "/srv/a#b.git",
                "file:///srv/a#b.git", "https://[2001:db8::1]:8443/a.git", "ssh://h.example:22/a",
            )
        ),
        PLACES["find_links"]("https://h.example/w.html?torch=2.9&page=1#sha256=" + "ab" * 32),
        PLACES["find_links"]("/srv/wheels"),
        PLACES["engine.host"]("ssh://me@h.example:2222"),
        PLACES["engine.host"]("unix:///run/docker.sock"),
        PLACES["images"](f"h.example:5000/a/b:1@sha256:{'ab' * 32}"),
        PLACES["registry"]("h.example:5000/team/{model}"),
    ],
)  # fmt: skip
def test_what_carries_no_secret_is_taken(settings: Any) -> None:
    parse(json.dumps({"kind": "site", **settings}), Path("x.yaml"), Site)


def test_what_is_secret_in_an_address() -> None:
    assert login("https://me:a%40b@h/x@y") == "me:a%40b"
    assert login("https://h/x@y") is None
    assert login("h.example/x@sha256:" + "0" * 64) is None
    assert login("git@h:x") is None
    token = "s0meL0ngValueOf24Letters"
    assert secret_parameters(f"https://h/x?author=me&page=2&Api_Key=a&x={token}") == ("a", token)
    assert secret_parameters(f"https://h/x?{token}") == (token,)
    assert secret_parameters("https://h/x?v=2.9#sha256=" + "0a" * 32) == ()


def test_secrets_of_addresses_are_registered_and_not_shown() -> None:
    url = f"https://me:{MARK}%40@h.example/simple?sig={MARK}sig&page=second#{MARK}"
    assert shown(url) == "https://h.example/simple"
    hide_credentials(url)
    said = redact.text(f"pip says {MARK}@ and {MARK}%40 and {MARK}sig; second page of h.example")
    assert said == "pip says [redacted] and [redacted] and [redacted]; second page of h.example"
    assert shown("/srv/what?#@x") == "/srv/what?#@x"
    assert shown("http://[broken/x?y=1") == "http://[broken/x"


def test_a_token_in_place_of_the_user_is_one_also_before_a_password() -> None:
    token = "ghp_0123456789abcdefghijABCDEFGHIJ012345"
    hide_credentials(f"https://{token}:x-oauth-basic@h.example/a.git")
    assert token not in redact.text(f"remote: {token} is no user")


def test_what_is_quoted_in_a_message_has_none() -> None:
    for url in URLS:
        assert MARK not in without_secrets(f"(got '{url}')")
    assert without_secrets("(got 'many')") == "(got 'many')"
    assert without_secrets("(got 'h.example/a?page=1')") == "(got 'h.example/a?[redacted]"
