"""Registered values go, in whatever form they stand in a text."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from relforge import redact
from relforge.network import proxies_for
from relforge.sources import places


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_secrets", set())


def test_every_form_of_a_value_goes() -> None:
    secret = 'pä"ss\\wo/rd'
    redact.register(secret)
    forms = (
        secret, quote(secret, safe=""), json.dumps(secret), json.dumps(secret, ensure_ascii=False),
        repr(secret),
    )  # fmt: skip
    for form in forms:
        said = redact.text(f"a {form} b")
        assert "ss" not in said, form
        assert "[redacted]" in said, form


def test_logins_of_the_environment_are_known_when_they_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("https_proxy", "http://me:proxy-word@127.0.0.1:9")
    assert proxies_for("https://h.example/", None)["https"].startswith("http://me:")
    for name, value in {
        "INDEX_URL": "https://me:index-word@h.example/simple",
        "EXTRA_INDEX_URL": "https://a-lone-token@h.example/simple",
        "FIND_LINKS": "https://h.example/w?sig=links-word",
        "PROXY": "http://me:pips-proxy@h.example",
    }.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    places.pip_config()
    said = redact.text("proxy-word index-word a-lone-token links-word pips-proxy")
    assert said == " ".join(["[redacted]"] * 5)
