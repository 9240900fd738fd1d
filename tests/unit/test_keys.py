"""Keys: made safely, read from what vendors already have, and refused with a reason."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.dsse import key_id
from relforge.frozen import sha256_hex
from relforge.patching.keys import (
    load_identities,
    load_recipients,
    load_signer,
    load_signing_key,
    new_keys,
)
from tests.support.patching import (
    flagscale_key_folder,
    rsa_key,
    rsa_private_pem,
    rsa_public_pem,
)


def opens(recipients: object, identities: object) -> bool:
    sealed = pyrage.encrypt(b"secret", [r.native for r in recipients])  # type: ignore[attr-defined]
    plain = pyrage.decrypt(sealed, [k.native for k in identities.keys])  # type: ignore[attr-defined]
    return bool(plain == b"secret")


def test_new_keys_are_private_and_work(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        made = new_keys(tmp_path / "keys", "vendor")
    finally:
        os.umask(old)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "keys").iterdir()}
    assert modes == {
        "vendor.age.key": 0o600,
        "vendor.age.pub": 0o644,
        "vendor.sign.pem": 0o600,
        "vendor.sign.pub.pem": 0o644,
    }
    identities = load_identities([made.identity])
    assert identities.findings == ()
    recipients = load_recipients([made.recipient])
    assert opens(recipients, identities)
    assert recipients[0].id.fingerprint == sha256_hex(made.recipient_text.encode())
    assert recipients[0].id.fingerprint == identities.keys[0].id.fingerprint
    signer = load_signer("vendor", made.signing_public)
    assert signer.keyid == made.signing_keyid
    assert key_id(load_signing_key(made.signing_key).public_key()) == made.signing_keyid


@pytest.mark.parametrize("taken", ["age.key", "age.pub", "sign.pem", "sign.pub.pem"])
def test_a_key_is_never_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / f"me.{taken}").write_text("precious")
    with pytest.raises(RelforgeError, match="never overwritten") as caught:
        new_keys(tmp_path, "me")
    assert caught.value.code is ExitCode.SOURCE
    assert [p.name for p in tmp_path.iterdir()] == [f"me.{taken}"]
    assert (tmp_path / f"me.{taken}").read_text() == "precious"


def test_the_age_program_reads_our_identity(tmp_path: Path) -> None:
    """Needs Debian's package age; fails without it."""
    made = new_keys(tmp_path, "me")
    public = subprocess.run(
        ["age-keygen", "-y", made.identity], capture_output=True, check=True, text=True
    )
    assert public.stdout.strip() == made.recipient_text


def test_flagscale_s_key_folder_works_as_it_is(tmp_path: Path) -> None:
    folder = flagscale_key_folder(tmp_path / "k")
    identities = load_identities([folder])
    assert [key.path.name for key in identities.keys] == ["private_key.pem"]
    recipients = load_recipients([folder])
    assert opens(recipients, identities)
    der = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert recipients[0].id.fingerprint == identities.keys[0].id.fingerprint == sha256_hex(der)


@pytest.mark.parametrize(
    ("form", "passphrase"),
    [
        (PrivateFormat.TraditionalOpenSSL, None),
        (PrivateFormat.TraditionalOpenSSL, b"open sesame"),
        (PrivateFormat.PKCS8, None),
        (PrivateFormat.PKCS8, b"open sesame"),
        (PrivateFormat.OpenSSH, None),
    ],
)
def test_rsa_keys_of_every_form(
    tmp_path: Path, form: PrivateFormat, passphrase: bytes | None
) -> None:
    path = tmp_path / "id"
    path.write_bytes(rsa_private_pem(form, passphrase))
    path.chmod(0o600)
    asked: list[Path] = []

    def ask(which: Path) -> str:
        asked.append(which)
        return "open sesame"

    identities = load_identities([path], passphrase=ask)
    ssh = rsa_key().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert opens(load_recipients([f"{ssh} vendor@host"]), identities)
    assert asked == ([path] if passphrase else [])


def test_a_protected_openssh_key_is_read_or_the_way_is_shown(tmp_path: Path) -> None:
    """Needs ssh-keygen. Without the package bcrypt such a key cannot be read, and that is said."""
    path = tmp_path / "id_rsa"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "open sesame", "-f", path], check=True
    )
    if importlib.util.find_spec("bcrypt") is None:
        with pytest.raises(RelforgeError) as caught:
            load_identities([path], passphrase=lambda _path: "open sesame")
        assert caught.value.code is ExitCode.SOURCE
        assert caught.value.hint == f"bring it into PEM form: ssh-keygen -p -m PEM -f {path}"
    else:
        assert len(load_identities([path], passphrase=lambda _path: "open sesame").keys) == 1
    convert = ["ssh-keygen", "-q", "-p", "-m", "PEM", "-P", "open sesame", "-N", "other words"]
    subprocess.run([*convert, "-f", path], check=True, capture_output=True)
    assert len(load_identities([path], passphrase=lambda _path: "other words").keys) == 1


@pytest.mark.parametrize("answer", [None, "", "wrong"])
def test_a_passphrase_that_is_missing_or_wrong(tmp_path: Path, answer: str | None) -> None:
    path = tmp_path / "id.pem"
    path.write_bytes(rsa_private_pem(PrivateFormat.PKCS8, b"right one"))
    with pytest.raises(RelforgeError, match="passphrase") as caught:
        load_identities([path], passphrase=lambda _path: answer)
    assert caught.value.code is ExitCode.SOURCE
    assert str(path) in str(caught.value)


def test_a_key_that_others_can_read_is_a_finding(tmp_path: Path) -> None:
    made = new_keys(tmp_path, "me")
    made.identity.chmod(0o644)
    (finding,) = load_identities([tmp_path]).findings
    assert finding.path == made.identity
    assert "0644" in finding.problem
    assert finding.remedy == f"chmod 600 {made.identity}"


def test_several_keys_from_one_folder_and_strangers_are_passed_over(tmp_path: Path) -> None:
    new_keys(tmp_path, "one")
    new_keys(tmp_path, "two")
    shutil.copytree(flagscale_key_folder(tmp_path / "f"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "notes.txt").write_text("nothing")
    names = [key.path.name for key in load_identities([tmp_path]).keys]
    assert names == ["one.age.key", "private_key.pem", "two.age.key"]


def _small_rsa() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _ec_pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"AGE-SECRET-KEY-1QQQQ\n",
        b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        _small_rsa(),
        _ec_pem(),
        rsa_public_pem(),
        b"x" * (2 << 20),
    ],
    ids=["empty", "text", "bad-age", "bad-pem", "rsa-1024", "ec", "public", "huge"],
)
def test_a_named_file_without_usable_private_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(RelforgeError) as caught:
        load_identities([path])
    assert caught.value.code is ExitCode.SOURCE
    assert caught.value.where == str(path)


def test_missing_paths_and_empty_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(RelforgeError) as caught:
            load_identities([path])
        assert caught.value.code is ExitCode.SOURCE
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("spec", ["age1nonsense", "ssh-rsa AAAA", "ssh-ed25519 AAAA"])
def test_texts_that_are_no_recipient(spec: str) -> None:
    with pytest.raises(RelforgeError) as caught:
        load_recipients([spec])
    assert caught.value.code is ExitCode.SOURCE


def test_an_rsa_key_that_age_does_not_take_is_an_error_for_people() -> None:
    """Found by the fuzzer: cryptography reads it, age does not."""
    numbers = rsa.RSAPublicNumbers((1 << 40) + 1, rsa_key().public_key().public_numbers().n)
    line = numbers.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    with pytest.raises(RelforgeError, match="cannot be used") as caught:
        load_recipients([line])
    assert caught.value.code is ExitCode.SOURCE


def test_a_private_key_is_no_recipient(tmp_path: Path) -> None:
    made = new_keys(tmp_path, "me")
    for path in (made.identity, made.signing_key):
        with pytest.raises(RelforgeError, match="cannot be used") as caught:
            load_recipients([path])
        assert "private key" in str(caught.value)


def test_a_recipient_counts_once(tmp_path: Path) -> None:
    made = new_keys(tmp_path, "me")
    assert len(load_recipients([made.recipient, made.recipient_text])) == 1


def test_signers_are_p256_or_ed25519(tmp_path: Path) -> None:
    ed = ed25519.Ed25519PrivateKey.generate()
    pem = ed.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert load_signer("x", pem).keyid == key_id(ed.public_key())
    for wrong in (rsa_public_pem(), b"hello"):
        with pytest.raises(RelforgeError) as caught:
            load_signer("x", wrong)
        assert caught.value.code is ExitCode.SOURCE
    path = tmp_path / "rsa.pem"
    path.write_bytes(rsa_private_pem(PrivateFormat.PKCS8))
    with pytest.raises(RelforgeError, match="cannot be used"):
        load_signing_key(path)
