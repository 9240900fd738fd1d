"""Registered values go, in whatever form they stand in a text."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from relforge import redact
from relforge.evaluation.gating import online
from relforge.manifest.site import HubSite, HubsSite, Site
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


def test_a_token_that_only_a_child_reads_is_known_here(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_a-token-of-a-hub\n")
    hub = HubSite(token_file=tmp_path / "token")
    site = Site(hubs=HubsSite(huggingface=hub))
    assert online(site, {})["HF_TOKEN_PATH"] == str(tmp_path / "token")
    assert redact.text("refused: hf_a-token-of-a-hub") == "refused: [redacted]"
    gone = hub.model_copy(update={"token_file": tmp_path / "gone"})
    online(Site(hubs=HubsSite(huggingface=gone)), {})
