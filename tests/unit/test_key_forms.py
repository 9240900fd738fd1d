"""Keys in other forms: FlagScale's pair, age's and ssh's files, there and back, none lost."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.keys import load_identities, load_recipients, new_keys
from relforge.patching.keys.keyforms import FORMS, convert, show
from tests.support.patching import flagscale_key_folder, rsa_private_pem, rsa_public_pem


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_flagscale_s_pair_to_every_form_and_back(tmp_path: Path) -> None:
    pair = flagscale_key_folder(tmp_path / "pair")
    private, public = pair / "private_key.pem", pair / "public_key.pem"
    for form in FORMS:
        convert(private, form, tmp_path / form)
    assert (tmp_path / "pem").read_bytes() == private.read_bytes()
    assert (tmp_path / "public-pem").read_bytes() == public.read_bytes()
    assert {form: mode(tmp_path / form) for form in FORMS} == {
        "recipient": 0o644,
        "public-pem": 0o644,
        "pem": 0o600,
        "openssh": 0o600,
    }
    convert(tmp_path / "openssh", "pem", tmp_path / "back.pem")
    assert (tmp_path / "back.pem").read_bytes() == private.read_bytes()
    convert(tmp_path / "recipient", "public-pem", tmp_path / "back.pub.pem")
    assert (tmp_path / "back.pub.pem").read_bytes() == public.read_bytes()
    convert(public, "recipient", tmp_path / "line.pub")
    assert (tmp_path / "line.pub").read_bytes() == (tmp_path / "recipient").read_bytes()


def test_what_comes_out_is_what_ssh_and_age_take(tmp_path: Path) -> None:
    """Needs ssh-keygen and Debian's age."""
    private = flagscale_key_folder(tmp_path / "pair") / "private_key.pem"
    for form in FORMS:
        convert(private, form, tmp_path / form)
    line = (tmp_path / "recipient").read_text()
    found = subprocess.run(
        ["ssh-keygen", "-y", "-f", tmp_path / "openssh"], check=True, capture_output=True, text=True
    ).stdout
    assert found.split()[:2] == line.split()[:2]
    seal = ["age", "--encrypt", "--recipient", line.strip()]
    sealed = subprocess.run(seal, input=b"hello", check=True, capture_output=True).stdout
    for form in ("pem", "openssh"):
        opened = subprocess.run(
            ["age", "--decrypt", "--identity", tmp_path / form],
            input=sealed, check=True, capture_output=True,
        )  # fmt: skip
        assert opened.stdout == b"hello"


def test_an_age_identity_gives_its_recipient_and_a_signing_key_its_public_half(
    tmp_path: Path,
) -> None:
    made = new_keys(tmp_path, "me")
    convert(made.identity, "recipient", tmp_path / "r.pub")
    assert (tmp_path / "r.pub").read_bytes() == made.recipient.read_bytes()
    convert(made.signing_key, "public-pem", tmp_path / "s.pem")
    assert (tmp_path / "s.pem").read_bytes() == made.signing_public.read_bytes()


@pytest.mark.parametrize("form", ["pem", "openssh"])
def test_a_protected_key_stays_protected_unless_told(tmp_path: Path, form: str) -> None:
    key = tmp_path / "locked.pem"
    key.write_bytes(rsa_private_pem(PrivateFormat.PKCS8, b"open sesame"))
    words = tmp_path / "words"
    words.write_text("open sesame\n")
    words.chmod(0o600)
    common = ["convert", str(key), "--to", form, "--key-passphrase-file", str(words)]
    assert dispatch("keys", [*common, "--out", str(tmp_path / "same")]) == 0
    assert len(load_identities([tmp_path / "same"], passphrase=lambda _: "open sesame").keys) == 1
    with pytest.raises(RelforgeError, match="protected by a passphrase"):
        load_identities([tmp_path / "same"])
    assert dispatch("keys", [*common, "--out", str(tmp_path / "bare"), "--no-passphrase"]) == 0
    assert len(load_identities([tmp_path / "bare"]).keys) == 1
    assert mode(tmp_path / "bare") == 0o600


def test_no_file_is_ever_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = new_keys(tmp_path / "k", "me")
    taken, link = tmp_path / "taken", tmp_path / "link"
    taken.write_text("precious")
    link.symlink_to(tmp_path / "nowhere")
    for out in (taken, link, made.identity):
        words = ["convert", str(made.identity), "--to", "recipient", "--out", str(out)]
        assert dispatch("keys", words) == ExitCode.USAGE
        assert "never overwritten" in capsys.readouterr().err
    assert taken.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_form_that_a_key_does_not_have(tmp_path: Path) -> None:
    made = new_keys(tmp_path / "k", "me")
    public = tmp_path / "public_key.pem"
    public.write_bytes(rsa_public_pem())
    for key, form in (
        (made.identity, "pem"),
        (made.signing_key, "recipient"),
        (made.recipient, "public-pem"),
        (public, "pem"),
        (made.identity, "nonsense"),
    ):
        words = ["convert", str(key), "--to", form, "--out", str(tmp_path / "out")]
        assert dispatch("keys", words) == ExitCode.USAGE
    (tmp_path / "notes").write_text("hello")
    words = ["convert", str(tmp_path / "notes"), "--to", "pem", "--out", str(tmp_path / "out")]
    assert dispatch("keys", words) == ExitCode.SOURCE
    assert not (tmp_path / "out").exists()


def test_show_prints_the_public_sides_of_public_files_too(tmp_path: Path) -> None:
    pair = flagscale_key_folder(tmp_path / "pair")
    (private, public) = show(pair).sides
    assert (private.holds, public.holds) == ("private", "public")
    assert private.fingerprint == public.fingerprint
    (recipient,) = load_recipients([public.public])
    assert recipient.id.fingerprint == public.fingerprint
    made = new_keys(tmp_path / "k", "me")
    sides = {side.file: side for side in show(tmp_path / "k").sides}
    assert sides[made.signing_public].fingerprint == made.signing_keyid
    assert sides[made.signing_key].use == "sign"
    assert sides[made.identity].public == made.recipient_text
    secret = made.identity.read_text().splitlines()[-1]
    assert secret not in "".join(str(side) + side.public for side in sides.values())
    with pytest.raises(RelforgeError):
        show(tmp_path / "absent")
    (tmp_path / "none").mkdir()
    with pytest.raises(RelforgeError, match="cannot be used"):
        show(tmp_path / "none")
