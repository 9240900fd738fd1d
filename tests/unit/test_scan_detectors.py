"""What is recognised as a secret, and what only looks like one."""

from __future__ import annotations

import base64
import io
import marshal
import string
from pathlib import Path

import pytest

from relforge.scanning import seeking
from relforge.scanning.places import home_paths, home_rules
from relforge.scanning.private_keys import private_key_rules
from relforge.scanning.rules import Rule, Searcher
from relforge.scanning.secrets import secret_rules
from relforge.scanning.seeking import Found
from relforge.scanning.words import host_rules, word_rules
from tests.support.scanned import age_identity, finder, jwt, pem, random_text

BLOCK = 1 << 18
LOWER = string.ascii_lowercase + string.digits
UPPER = string.ascii_uppercase + string.digits
UUID = "3f8a1c52-9b7d-4e06-8a15-c27d90e4b6f1"

SECRETS = {
    "aws-access-key": "AKIA" + random_text(16, UPPER),
    "artifactory-key": "AKC" + random_text(70),
    "azure-storage-key": f"AccountKey={random_text(86)}==",
    "github-token": "ghp_" + random_text(36),
    "gitlab-token": "glpat-" + random_text(20),
    "huggingface-token": "hf_" + random_text(34),
    "modelscope-token": "ms-" + UUID,
    "docker-token": "dckr_pat_" + random_text(27),
    "pypi-token": "pypi-AgE" + random_text(150),
    "google-api-key": "AIza" + random_text(35),
    "openai-key": "sk-proj-" + random_text(40) + "T3BlbkFJ" + random_text(40),
    "anthropic-key": "sk-ant-" + "api03-" + random_text(95),
    "npm-token": "npm_" + random_text(36),
    "sendgrid-key": f"SG.{random_text(22)}.{random_text(43)}",
    "slack-token": "xoxb-" + "704518263917-" + random_text(24, LOWER),
    "square-secret": "sq0csp-" + random_text(43),
    "stripe-key": "sk_live_" + random_text(24),
    "jwt": jwt({"iss": "https://login", "exp": 1999999999}),
    "url-login": f"https://maker:{random_text(18)}@git.maker.dev/x.git",
}


def rules_in(text: str | bytes, *rules: Rule) -> set[str]:
    data = text.encode() if isinstance(text, str) else text
    searcher = Searcher((*secret_rules(), *private_key_rules(), *rules))
    return {match.rule.name for match in searcher.search(data)}


@pytest.mark.parametrize("name", SECRETS)
def test_every_format_is_found_wherever_it_stands(name: str) -> None:
    secret = SECRETS[name]
    assert name in rules_in(f"key = '{secret}'\n")
    assert name in rules_in(f'{{"key": "{secret}"}}')
    # In bytecode the byte before a constant is its length, which may be a letter.
    for padding in range(60):
        constants = (" " * padding + secret, "zoom" * 9, 7, "another", None)
        assert name in rules_in(marshal.dumps(constants)), padding
    code = compile(f"def f(): return {secret!r}", "x.py", "exec")
    assert name in rules_in(marshal.dumps(code))


def test_a_fine_grained_github_token_is_one() -> None:
    token = "github_pat_" + random_text(22) + "_" + random_text(59)
    assert rules_in(token) == {"github-token"}


def test_every_rule_of_secrets_has_a_sample() -> None:
    assert {rule.name for rule in secret_rules()} == set(SECRETS)


@pytest.mark.parametrize(
    "text",
    [
        "AKIA" + "IOSFODNN7EXAMPLE",
        "ghp_" + "x" * 36,
        "ghp_" + "1234567890" * 3 + "123456",
        "export HF_TOKEN=hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "hf_processorBaseMultiModalProcessorAndM",
        "NtNtCskHulEq4gyu8_6hf_xet37Pyo3MethodsInventoryForPyXetTaskStateENvYB1x_NtNt",
        "sk-" + "your-key-here",
        "ms-python.python",
        jwt({"some": "payload"}),
        jwt({"sub": "1234567890", "name": "John Doe", "iat": 1516239022}),
        "https://user:password@example.com/",
        "http://user:pass@host:8080",
        "postgresql://scott:tiger@localhost/test",
        "https://${USER}:${PASSWORD}@git.maker.dev/",
        "https://{user}:{password}@git.maker.dev/",
        f"https://{random_text(32, '0123456789abcdef')}@o1.ingest.sentry.io/1",
        "git+ssh://git@github.com/a/b.git",
        "see https://docs.python.org/3:library@index",
        "https://registry.npmjs.org/@scope/name",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_secret_is_none(text: str) -> None:
    assert rules_in(text) == set()


KEYS = {
    "pkcs8": pem("PRIVATE KEY"),
    "ed25519": pem("PRIVATE KEY", size=48),
    "rsa": pem("RSA PRIVATE KEY", size=1190),
    "ec": pem("EC PRIVATE KEY", size=121),
    "openssh": pem("OPENSSH PRIVATE KEY", size=300),
    "encrypted": pem("ENCRYPTED PRIVATE KEY", size=300),
    "cosign": pem("ENCRYPTED COSIGN PRIVATE KEY", size=400),
    "sigstore": pem("ENCRYPTED SIGSTORE PRIVATE KEY", size=400),
    "pgp": pem("PGP PRIVATE KEY BLOCK", size=400).replace("-----\n", "-----\nVersion: 1\n\n", 1),
    "old": pem("RSA PRIVATE KEY", size=1190).replace(
        "-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00AA\n\n", 1
    ),
    "windows": pem("PRIVATE KEY").replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_private_key_is_found_as_file_and_in_source(name: str) -> None:
    key = KEYS[name]
    assert rules_in(key) == {"pem-private-key"}
    assert rules_in(f"KEY = {key!r}") == {"pem-private-key"}
    lines = "\n".join(f'    "{row}\\n"' for row in key.splitlines())
    assert rules_in(f"KEY = (\n{lines}\n)\n") == {"pem-private-key"}
    assert rules_in("data: " + base64.b64encode(key.encode()).decode()) == {"packed-private-key"}


def test_identities_of_age_and_putty_are_found() -> None:
    assert rules_in(f"# public key: age1\n{age_identity()}\n") == {"age-identity"}
    putty = "PuTTY-User-Key-File-" + "3: ssh-ed25519\nEncryption: none\nComment: x\n"
    assert rules_in(putty) == {"putty-private-key"}


@pytest.mark.parametrize(
    "text",
    [
        pem("CERTIFICATE", size=900),
        pem("PUBLIC KEY"),
        pem("RSA PUBLIC KEY", size=270),
        pem("PGP PUBLIC KEY BLOCK", size=400),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + random_text(40),
        "age1" + random_text(58, LOWER),
        'if b"-----BEGIN PRIVATE KEY-----" in data: raise ValueError("a private key")',
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n" + "A" * 200,
        "AGE-SECRET-" + "KEY-1" + "Q" * 58,
        "an identity begins with AGE-SECRET-" + "KEY-1 and is kept secret",
        "PuTTY-User-Key-File-" + "2: is how such a file begins",
    ],
)
def test_public_keys_certificates_and_markers_are_no_private_keys(text: str) -> None:
    assert rules_in(text) == set()


def test_a_path_of_the_host_is_found_as_a_whole_path_only() -> None:
    rules = home_rules(["/srv/forge", "/home/maker"])
    for text in (
        "cd /srv/forge",
        '"/srv/forge/x.py"',
        "/srv/forge.",
        "file:///home/maker/a",
        "=/srv/forge:",
    ):
        assert rules_in(text, *rules) == {"home-path"}, text
    for text in ("/srv/forge.cpp", "/srv/forgely", "/home/net/srv/forge", "/home/makers", "/home/"):
        assert rules_in(text, *rules) == set(), text


def test_folders_that_every_image_has_are_no_paths_of_the_host(tmp_path: Path) -> None:
    paths = home_paths(
        home=Path("/srv/relforge/home"),
        roots=[Path("/src"), tmp_path],
        site_file=None,
        person=Path("/root"),
    )
    assert paths == tuple(sorted({"/srv/relforge/home", str(tmp_path)}))
    runner = home_paths(home=tmp_path, roots=[], site_file=None, person=Path("/home/runner"))
    assert runner == (str(tmp_path),)


def test_a_denied_domain_is_everything_below_it_and_nothing_else() -> None:
    rules = host_rules(["corp.maker.dev", "build7"])
    for text in ("https://git.Corp.Maker.DEV/x", "at corp.maker.dev.", "root@build7:", "BUILD7"):
        assert rules_in(text, *rules) == {"denied-host"}, text
    for text in (
        "mycorp.maker.dev",
        "corp.maker.dev.example",
        "corp.maker.device",
        "build70",
        "rebuild7",
    ):
        assert rules_in(text, *rules) == set(), text


def test_a_denied_word_is_a_word_of_its_own() -> None:
    rules = word_rules(["Falcon", "鲲鹏"])
    assert rules_in("project FALCON-2", *rules) == {"denied-word"}
    assert rules_in("用于鲲鹏九二零", *rules) == {"denied-word"}
    assert rules_in("falconry and peregrinefalcon", *rules) == set()


def test_anchors_that_begin_alike_all_count() -> None:
    def always(_data: bytes, _at: int) -> bool:
        return True

    rules = [
        Rule("word", "short", "", (b"abc",), lambda _d, _a: False),
        Rule("word", "long", "", (b"abcdef",), always),
        Rule("word", "longest", "", (b"abcdefgh",), always),
    ]
    assert {m.rule.name for m in Searcher(rules).search(b"xxabcdefghxx")} == {"long", "longest"}


@pytest.mark.parametrize("shift", [-400, -60, -1, 0, 1, 60, 32700, 32800])
def test_a_secret_between_two_blocks_of_a_file_is_found_once(
    shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeking, "BLOCK", BLOCK)
    token = SECRETS["github-token"].encode()
    at = BLOCK + shift
    data = bytearray(b"\n" * (2 * BLOCK + 17))
    data[at : at + len(token)] = token
    found = Found(finder())
    found.file("big.txt", io.BytesIO(bytes(data)), len(data))
    (hit,) = found.searched().hits
    assert (hit.rule, hit.path, hit.line) == ("github-token", "/big.txt", at + 1)
