"""Values of the site itself: where they are read, in which forms they are found, what is kept."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from relforge import redact
from relforge.manifest.publishing import (
    ContentPolicy,
    GithubSite,
    GitTarget,
    PublishSite,
    SigningSite,
)
from relforge.manifest.site import EngineSite, HubSite, HubsSite, ProxySite, Site
from relforge.scanning.rules import Searcher
from relforge.scanning.seeking import Finder, Found
from relforge.scanning.values import Values, values_of
from tests.support.scanned import age_identity, pem, random_text


def secret(seed: int) -> str:
    return random_text(24, seed=100 + seed) + "+/="


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    files = tmp_path / "site"
    return Site(
        hubs=HubsSite(
            huggingface=HubSite(token_file=written(files / "hf", secret(1) + "\n")),
            modelscope=HubSite(token_file=written(files / "ms", secret(2))),
        ),
        proxy=ProxySite(
            http="http://proxy:3128",
            user="me",
            password_file=written(files / "proxy", secret(3) + "\nnot the password of it\n"),
        ),
        key_passphrase_file=written(files / "pass", secret(4)),
        identities=(written(files / "keys" / "a.age", f"# a key\n{age_identity()}\n").parent,),
        publish=PublishSite(
            signing=SigningSite(
                key=written(files / "sign.pem", pem("ENCRYPTED SIGSTORE PRIVATE KEY", size=400)),
                passphrase_file=written(files / "sign.pass", secret(5)),
            ),
            targets={
                "git": GitTarget(
                    kind="git",
                    url="https://git.dev/x",
                    github=GithubSite(
                        repository="a/b", token_file=written(files / "github", secret(6))
                    ),
                )
            },
        ),
        engine=EngineSite(config_dir=tmp_path / "docker"),
    )


def rules_in(values: Values, text: str | bytes) -> set[str]:
    data = text.encode() if isinstance(text, str) else text
    return {match.rule.name for match in Searcher(values.rules()).search(data)}


def test_every_value_that_a_site_names_is_found(site: Site, tmp_path: Path) -> None:
    values = values_of(site, {}, tmp_path / "nobody")
    expected = {
        "hubs.huggingface.token_file": secret(1),
        "hubs.modelscope.token_file": secret(2),
        "proxy.password_file": secret(3),
        "key_passphrase_file": secret(4),
        "publish.signing.passphrase_file": secret(5),
        "publish.targets.git.github.token_file": secret(6),
        "identities": age_identity(),
        "publish.signing.key": pem("ENCRYPTED SIGSTORE PRIVATE KEY", size=400).splitlines()[3],
    }
    assert set(values.counts) == set(expected)
    for name, value in expected.items():
        assert rules_in(values, f"x = {value}!") == {name}
        assert rules_in(values, quote(value, safe="")) == {name}
        assert rules_in(values, base64.b64encode(value.encode())) == {name}
    assert rules_in(values, "not the password of it, and no other value") == set()


def test_what_the_programs_of_the_host_log_in_with_is_found(site: Site, tmp_path: Path) -> None:
    person = tmp_path / "person"
    login = base64.b64encode(f"me:{secret(11)}".encode()).decode()
    written(tmp_path / "docker" / "config.json", json.dumps({"auths": {"r": {"auth": login}}}))
    written(person / ".netrc", f"machine a.dev login me password {secret(12)}\n").chmod(0o600)
    written(person / ".git-credentials", f"https://me:{quote(secret(13), safe='')}@git.dev\n")
    written(person / ".cache" / "huggingface" / "token", secret(14))
    environment = {
        "CI_DEPLOY_TOKEN": secret(15),
        "https_proxy": f"http://me:{quote(secret(16), safe='')}@proxy:1",
        "TOKENIZERS_PARALLELISM": "false",
        "SECRET_PLACE": "/etc/secret/place",
        "PATH": "/usr/local/bin:/usr/bin",
        "API_KEY": "aaaaaaaaaaaaaaaa",
    }
    values = values_of(site, environment, person)
    expected = {
        "docker's config.json": secret(11),
        ".netrc": secret(12),
        ".git-credentials": secret(13),
        "Hugging Face's token": secret(14),
        "the environment's CI_DEPLOY_TOKEN": secret(15),
        "the environment's https_proxy": secret(16),
    }
    redacted = {"what was registered for redaction"}
    assert set(values.of_host) - redacted == set(expected)
    for name, value in expected.items():
        assert rules_in(values, f"'{value}'") - redacted == {name}
    assert rules_in(values, login) == {"docker's config.json"}
    for harmless in environment.values():
        if secret(15) not in harmless and "@" not in harmless:
            assert rules_in(values, harmless) == set()


def test_what_was_registered_for_redaction_is_found(tmp_path: Path) -> None:
    value = random_text(30, seed=77)
    redact.register(value)
    assert rules_in(values_of(Site(), {}, tmp_path), value) == {"what was registered for redaction"}


def test_short_values_are_not_looked_for(tmp_path: Path) -> None:
    site = Site(key_passphrase_file=written(tmp_path / "p", "abc123"))
    assert values_of(site, {}, tmp_path).counts == {}


def test_a_value_is_neither_shown_nor_let_through(site: Site, tmp_path: Path) -> None:
    values = values_of(site, {}, tmp_path)
    policy = ContentPolicy(allowed={"*": "whatever it is"})
    found = Found(Finder(Searcher(values.rules()), policy))
    data = f"password: {secret(4)}\n".encode()
    found.file("etc/x", io.BytesIO(data), len(data))
    (hit,) = found.searched().hits
    assert (hit.kind, hit.rule) == ("known-value", "key_passphrase_file")
    assert secret(4) not in found.searched().model_dump_json()
    assert secret(4) not in repr(values)


def test_the_fingerprint_knows_other_values_and_keeps_none(site: Site, tmp_path: Path) -> None:
    home, policy = tmp_path / "home", ContentPolicy()
    first = values_of(site, {}, tmp_path).fingerprint(home, policy, whole=False)
    assert values_of(site, {"A_TOKEN": secret(20)}, tmp_path).fingerprint(
        home, policy, whole=False
    ) == first  # fmt: skip
    assert values_of(site, {"A_TOKEN": secret(20)}, tmp_path).fingerprint(
        home, policy, whole=True
    ) != values_of(site, {}, tmp_path).fingerprint(home, policy, whole=True)
    denying = ContentPolicy(deny_hosts=("corp.dev",))
    assert values_of(site, {}, tmp_path).fingerprint(home, denying, whole=False) != first
    (tmp_path / "site" / "pass").write_text(secret(21))
    assert values_of(site, {}, tmp_path).fingerprint(home, policy, whole=False) != first
    # Another home has another salt: nobody can make a table of them.
    (tmp_path / "site" / "pass").write_text(secret(4))
    assert values_of(site, {}, tmp_path).fingerprint(tmp_path / "b", policy, whole=False) != first
    assert (home / "scan" / "salt").stat().st_mode & 0o777 == 0o600


def test_denied_words_are_no_more_to_be_guessed_than_values(tmp_path: Path) -> None:
    """The fingerprint is published with the record of a release."""
    none = values_of(Site(), {}, tmp_path)

    def prints(policy: ContentPolicy) -> set[str]:
        return {none.fingerprint(tmp_path / home, policy, whole=False) for home in ("a", "b")}

    assert len(prints(ContentPolicy(deny_words=("Falcon",)))) == 2
    assert len(prints(ContentPolicy(deny_hosts=("corp.dev",)))) == 2
    assert len(prints(ContentPolicy())) == 1
