"""The key that signs releases: its forms, its passphrase, and what is said of a bad one."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from relforge import hostcheck
from relforge.attesting.signing import SigningKey, signer_of
from relforge.cli.dispatch import dispatch
from relforge.errors import RelforgeError
from relforge.evidence.dsse import PrivateKey, key_id, matches
from relforge.manifest.publishing import PublishSite, SigningSite
from relforge.manifest.site import Site
from relforge.patching.keys import LockedKey, load_identities, load_signer, new_keys
from relforge.patching.keys.keyforms import show
from tests.support.patching import rsa_private_pem
from tests.support.signed import key_file, new_key


def site(key: Path, passphrase_file: Path | None = None) -> Site:
    return Site(publish=PublishSite(signing=SigningSite(key=key, passphrase_file=passphrase_file)))


def words(path: Path, text: str) -> Path:
    path.write_text(f"{text}\n")
    return path


def load(key: Path, passphrase_file: Path | None = None) -> SigningKey:
    found = SigningKey.load(site(key, passphrase_file))
    assert found is not None
    return found


def cosign_form(key: PrivateKey, passphrase: str, **changes: Any) -> bytes:
    """As ``cosign generate-key-pair`` writes it; less work for scrypt."""
    import hashlib

    from nacl.secret import SecretBox

    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, nonce = bytes(32), bytes(range(24))
    derived = hashlib.scrypt(passphrase.encode(), salt=salt, n=1 << 10, r=8, p=1, dklen=32)
    sealed = SecretBox(derived).encrypt(plain, nonce)

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    value = {
        "kdf": {"name": "scrypt", "params": {"N": 1 << 10, "r": 8, "p": 1}, "salt": text(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": text(nonce)},
        "ciphertext": text(sealed.ciphertext),
        **changes,
    }
    body = base64.encodebytes(json.dumps(value).encode()).decode()
    begin, end = (f"-----{w} ENCRYPTED SIGSTORE PRIVATE KEY-----\n" for w in ("BEGIN", "END"))
    return f"{begin}{body}{end}".encode()


@pytest.mark.parametrize("kind", ["ecdsa", "ed25519"])
@pytest.mark.parametrize("form", ["pkcs8", "locked", "openssh", "cosign"])
def test_every_form_gives_the_same_key(tmp_path: Path, kind: str, form: str) -> None:
    key = new_key(kind)
    path = tmp_path / "maker.key"
    if form == "cosign":
        path.write_bytes(cosign_form(key, "words"))
    else:
        lock = NoEncryption() if form != "locked" else BestAvailableEncryption(b"words")
        kept = PrivateFormat.OpenSSH if form == "openssh" else PrivateFormat.PKCS8
        path.write_bytes(key.private_bytes(Encoding.PEM, kept, lock))
    found = load(path, words(tmp_path / "pass", "words"))
    assert found.keyid == key_id(key.public_key())
    payload, signature = found.sign_image("sha256:" + "1" * 64, "hello")
    assert matches(key.public_key(), base64.b64decode(signature), payload)
    assert load_signer("maker", found.public_pem).keyid == found.keyid
    assert found.algorithm == {"ecdsa": "ECDSA P-256", "ed25519": "Ed25519"}[kind]


@pytest.mark.parametrize("form", ["pem", "cosign"])
def test_a_passphrase_that_is_wrong_or_missing(tmp_path: Path, form: str) -> None:
    key, path = new_key(), tmp_path / "maker.key"
    path.write_bytes(
        cosign_form(key, "words")
        if form == "cosign"
        else key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"words"))
    )
    with pytest.raises(RelforgeError, match="does not open"):
        load(path, words(tmp_path / "pass", "others"))
    with pytest.raises(LockedKey) as caught:
        load(path)
    assert "publish.signing.passphrase_file" in (caught.value.hint or "")
    finding = hostcheck.signing_key(site(path))
    assert (finding.state, hostcheck.signing_key(site(path), needed=True).state) == (
        "warning",
        "missing",
    )
    # Who signs can be told without it, and stays the same.
    signer = signer_of(site(path))
    assert signer is not None
    assert signer.startswith("protected:")
    assert signer == signer_of(site(path, tmp_path / "pass"))


def test_cosign_keys_under_an_empty_passphrase_need_none(tmp_path: Path) -> None:
    key, path = new_key(), tmp_path / "maker.key"
    path.write_bytes(cosign_form(key, ""))
    assert load(path).keyid == key_id(key.public_key())


@pytest.mark.parametrize(
    "changes",
    [
        {"kdf": {"name": "argon2"}},
        {"kdf": {"name": "scrypt", "params": {"N": 1 << 30, "r": 8, "p": 1}, "salt": ""}},
        {"cipher": {"name": "nacl/secretbox", "nonce": "AAAA"}},
        {"ciphertext": None},
    ],
)
def test_a_damaged_cosign_key_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "maker.key"
    path.write_bytes(cosign_form(new_key(), "words", **changes))
    with pytest.raises(RelforgeError) as caught:
        load(path, words(tmp_path / "pass", "words"))
    assert caught.value.where == str(path)
    assert "damaged" in (caught.value.why or "")


def test_the_real_program_s_key_is_read_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("cosign") is None:
        pytest.fail("cosign is needed: scripts/test installs it")
    monkeypatch.setenv("COSIGN_PASSWORD", "words")
    subprocess.run(
        ["cosign", "generate-key-pair", "--output-key-prefix", "own"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    found = load(tmp_path / "own.key", words(tmp_path / "pass", "words"))
    assert found.keyid == load_signer("own", tmp_path / "own.pub").keyid
    (side,) = show(tmp_path / "own.key", passphrase=lambda _: "words").sides
    assert (side.use, side.fingerprint) == ("sign", found.keyid)


def test_a_cosign_key_among_identities_opens_nothing_and_disturbs_nothing(tmp_path: Path) -> None:
    new_keys(tmp_path, "me")
    (tmp_path / "cosign.key").write_bytes(cosign_form(new_key(), "words"))
    found = load_identities([tmp_path])
    assert len(found.keys) == 1
    assert found.findings == ()


def test_what_is_no_signing_key_is_missing_with_a_remedy(tmp_path: Path) -> None:
    rsa = tmp_path / "rsa.pem"
    rsa.write_bytes(rsa_private_pem(PrivateFormat.PKCS8))
    for path in (rsa, tmp_path / "none.pem"):
        finding = hostcheck.signing_key(site(path))
        assert finding.state == "missing"
        assert str(path) in finding.found
        assert finding.remedy
        assert signer_of(site(path)) == "unusable"


def test_a_good_key_is_named_by_its_id_and_one_that_others_read_is_told(tmp_path: Path) -> None:
    path = key_file(tmp_path / "maker.pem")
    finding = hostcheck.signing_key(site(path))
    assert finding.state == "ok"
    assert load(path).keyid in finding.found
    assert signer_of(site(path)) == load(path).keyid
    path.chmod(0o644)
    assert hostcheck.signing_key(site(path)).remedy == f"chmod 600 {path}"
    nothing = hostcheck.signing_key(Site())
    assert nothing.state == "not-run"
    assert signer_of(Site()) is None


@pytest.mark.parametrize(("option", "kind"), [([], "ecdsa-p256"), (["--ed25519"], "ed25519")])
def test_keys_new_makes_the_kind_that_was_asked_for(
    tmp_path: Path, option: list[str], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["new", "--out", str(tmp_path), "--name", "maker", "--json", *option]
    assert dispatch("keys", asked) == 0
    told = json.loads(capsys.readouterr().out)
    (side,) = show(tmp_path / "maker.sign.pem").sides
    assert (side.kind, side.fingerprint) == (kind, told["signing_keyid"])
    assert load(tmp_path / "maker.sign.pem").keyid == told["signing_keyid"]
