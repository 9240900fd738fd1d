"""A bundle opened into a folder, and sealed anew for others: all of it verified, or nothing."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pyrage
import pytest

from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.bundle import HEADER_FILE, open_bundle, open_to_folder, rotate, sealing
from relforge.patching.bundle.header import Header, read_header
from relforge.patching.keys import (
    NewKeys,
    load_identities,
    load_recipients,
    load_signer,
    load_signing_key,
    new_keys,
)
from relforge.patching.series import read_series
from relforge.patching.source import Trust
from tests.support.patching import (
    World,
    files_with_mark,
    flagscale_key_folder,
    make_world,
)
from tests.unit.test_bundle import CONTENT_CHANGES, RECIPE, resealed


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> NewKeys:
    return new_keys(tmp_path_factory.mktemp("others"), "others")


@pytest.fixture
def site(world: World, tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(
        f"home: home\ntrusted_keys:\n- {{name: v, public_key: {world.keys.signing_public}}}\n"
    )
    return file


def plaintext(world: World, bundle: Path, key: Path) -> bytes:
    header = read_header(bundle, [], allow_unsigned=True).header
    sealed = bundle.read_bytes()[-header.ciphertext.size_bytes :]
    opened: bytes = pyrage.decrypt(sealed, [k.native for k in load_identities([key]).keys])
    return opened


def test_the_plain_patch_set_comes_out_private_and_whole(
    world: World, site: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    words = ["open", str(world.bundle), "--dir", str(out), "--site", str(site)]
    assert dispatch("patch", [*words, "--key-path", str(world.keys.identity)]) == 0
    again = read_series(out, name=world.plain.name)
    assert again.patch_set == read_series(world.plain).patch_set
    assert list(again) == list(read_series(world.plain))
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in out.rglob("*") if p.is_file()} == {0o600}
    assert Header.model_validate_json((out / HEADER_FILE).read_bytes()) == world.sealed.header
    # What was written is all there is: no other copy of the plaintext.
    assert files_with_mark(tmp_path / "home") == []
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_an_existing_folder_is_never_touched(world: World, tmp_path: Path) -> None:
    trust = Trust(tuple(world.trusted), world.identities)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for folder in (tmp_path, link):
        with pytest.raises(RelforgeError, match="there already") as caught:
            open_to_folder(world.bundle, folder, trust, home=world.home)
        assert caught.value.code is ExitCode.USAGE
    assert list(tmp_path.iterdir()) == [link]


@pytest.mark.parametrize("case", CONTENT_CHANGES)
def test_nothing_is_written_unless_everything_is_right(
    world: World, others: NewKeys, tmp_path: Path, case: str
) -> None:
    bundle = resealed(world, tmp_path, CONTENT_CHANGES[case])
    trust = Trust(tuple(world.trusted), world.identities)
    with pytest.raises(RelforgeError) as caught:
        open_to_folder(bundle, tmp_path / "out", trust, home=world.home)
    assert caught.value.code is ExitCode.SOURCE
    with pytest.raises(RelforgeError) as caught:
        rotated(world, bundle, tmp_path / "new.bundle", others)
    assert caught.value.code is ExitCode.SOURCE
    assert list(tmp_path.iterdir()) == [bundle]


def rotated(world: World, bundle: Path, out: Path, keys: NewKeys) -> sealing.SealedBundle:
    return rotate(
        bundle,
        trusted=world.trusted,
        identities=world.identities,
        recipients=load_recipients([keys.recipient]),
        signing_key=load_signing_key(keys.signing_key),
        creator="somebody",
        out=out,
    )


def test_rotating_changes_recipients_and_signature_alone(
    world: World, others: NewKeys, tmp_path: Path
) -> None:
    new = rotated(world, world.bundle, tmp_path / "new.bundle", others)
    old_header, header = world.sealed.header, new.header
    changed = {
        name for name in Header.model_fields if getattr(header, name) != getattr(old_header, name)
    }
    assert changed - {"created_utc"} == {"recipients", "ciphertext", "creator"}
    assert plaintext(world, new.path, others.identity) == plaintext(
        world, world.bundle, world.keys.identity
    )
    signers = [load_signer("others", others.signing_public)]
    assert read_header(new.path, signers).signer == "others"
    identities = load_identities([others.identity])
    assert list(open_bundle(new.path, signers, identities)) == list(read_series(world.plain))
    with pytest.raises(RelforgeError, match="none of the private keys"):
        list(open_bundle(new.path, signers, world.identities))


def test_debian_s_age_opens_what_was_rotated(world: World, others: NewKeys, tmp_path: Path) -> None:
    """Needs Debian's package age; with an age identity and with FlagScale's own key file."""
    pem = flagscale_key_folder(tmp_path / "rsa")
    both = tmp_path / "both.bundle"
    rotate(
        world.bundle,
        trusted=world.trusted,
        identities=world.identities,
        recipients=load_recipients([others.recipient, pem]),
        signing_key=load_signing_key(others.signing_key),
        creator="somebody",
        out=both,
    )
    for number, key in enumerate((others.identity, pem / "private_key.pem")):
        into = tmp_path / str(number)
        into.mkdir()
        subprocess.run(["sh", "-ec", RECIPE, "sh", both, key], cwd=into, check=True)
        for name, data in read_series(world.plain):
            assert (into / "patches" / name).read_bytes() == data


def test_rotating_in_place_on_the_command_line(
    world: World, others: NewKeys, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "x.bundle"
    bundle.write_bytes(world.bundle.read_bytes())
    words = ["rotate", str(bundle), "--recipient", others.recipient_text, "--json"]
    words += ["--sign", str(world.keys.signing_key), "--site", str(site)]
    assert dispatch("patch", words) == ExitCode.SOURCE, "no key opens it"
    assert bundle.read_bytes() == world.bundle.read_bytes()
    capsys.readouterr()
    assert dispatch("patch", [*words, "--key-path", str(world.keys.identity)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["header"]["content_sha256"] == world.sealed.header.content_sha256
    identities = load_identities([others.identity])
    assert list(open_bundle(bundle, world.trusted, identities)) == list(read_series(world.plain))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["site.yaml", "x.bundle"]


def test_unsigned_and_strangers_bundles_only_when_the_user_says_so(
    world: World, others: NewKeys, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unsigned, strange = tmp_path / "unsigned.bundle", tmp_path / "strange.bundle"
    world.seal_again(unsigned, signing_key=None)
    world.seal_again(strange, signing_key=load_signing_key(others.signing_key))
    common = ["--key-path", str(world.keys.identity), "--site", str(site)]
    for bundle in (unsigned, strange):
        out, new = tmp_path / f"{bundle.stem}.out", tmp_path / f"{bundle.stem}.new"
        opening = ["open", str(bundle), "--dir", str(out), *common]
        sealing_anew = ["rotate", str(bundle), "--out", str(new), *common]
        sealing_anew += ["--recipient", others.recipient_text]
        sealing_anew += ["--sign", str(world.keys.signing_key)]
        for words, made in ((opening, out), (sealing_anew, new)):
            assert dispatch("patch", words) == ExitCode.SOURCE
            assert "--allow-unsigned" in capsys.readouterr().err
            assert not made.exists()
            assert dispatch("patch", [*words, "--allow-unsigned"]) == 0
            assert made.exists()


def test_unpatch_takes_an_unsigned_bundle_only_when_the_user_says_so(
    world: World, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unsigned = tmp_path / "unsigned.bundle"
    world.seal_again(unsigned, signing_key=None)
    site.write_text(site.read_text() + f"patch_sets: {{vllm-0.32.0-cpu: {unsigned}}}\n")
    words = ["--device", "cpu_x86", "--dir", str(tmp_path / "out"), "--site", str(site)]
    assert dispatch("unpatch", words) == ExitCode.SOURCE
    assert "--allow-unsigned" in capsys.readouterr().err
    # Then the next look counts: this one is not what the release asks for.
    assert dispatch("unpatch", [*words, "--allow-unsigned"]) in (ExitCode.SOURCE, ExitCode.USAGE)
    shown = capsys.readouterr().err
    assert "not signed" not in shown
    assert "patch set vllm-0.32.0-cpu" in shown


def test_forged_is_refused_whatever_the_user_says(
    world: World, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = world.bundle.read_bytes()
    at = raw.index(b'"sig":"') + 40
    forged = tmp_path / "forged.bundle"
    forged.write_bytes(raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :])
    words = ["open", str(forged), "--dir", str(tmp_path / "out"), "--allow-unsigned"]
    words += ["--key-path", str(world.keys.identity), "--site", str(site)]
    assert dispatch("patch", words) == ExitCode.SOURCE
    assert "altered" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bundle_is_rotated_into_a_bundle_only(
    world: World, others: NewKeys, site: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    words = ["rotate", str(world.bundle), "--recipient", others.recipient_text]
    words += ["--sign", str(others.signing_key), "--site", str(site), "--out", str(precious)]
    assert dispatch("patch", words) == ExitCode.USAGE
    assert precious.read_text() == "precious"


def test_a_patch_that_changes_under_sealing_is_an_error_for_people(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = read_series(world.plain)
    original = sealing._tar_chunks

    def edited(*args: object) -> object:
        (world.plain / "0001-core.patch").write_bytes(b"other")
        return original(*args)  # type: ignore[arg-type]

    content = (world.plain / "0001-core.patch").read_bytes()
    monkeypatch.setattr(sealing, "_tar_chunks", edited)
    try:
        with pytest.raises(RelforgeError, match="cannot be used") as caught:
            world.seal_again(tmp_path / "x.bundle")
    finally:
        (world.plain / "0001-core.patch").write_bytes(content)
    assert caught.value.code is ExitCode.SOURCE
    assert "changed while relforge worked" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert patches == read_series(world.plain)


def test_a_full_disk_is_said_and_leaves_nothing(
    world: World, others: NewKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: full)
    with pytest.raises(RelforgeError, match="disk is full") as caught:
        rotated(world, world.bundle, tmp_path / "new.bundle", others)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert list(tmp_path.iterdir()) == []


def test_a_protected_signing_key_takes_the_same_passphrase_file(
    world: World, others: NewKeys, site: Path, tmp_path: Path
) -> None:
    locked, words = tmp_path / "sign.pem", tmp_path / "words"
    lock = ["openssl", "pkcs8", "-topk8", "-passout", "pass:open sesame"]
    subprocess.run([*lock, "-in", world.keys.signing_key, "-out", locked], check=True)
    words.write_text("open sesame\n")
    words.chmod(0o600)
    out = tmp_path / "new.bundle"
    command = ["rotate", str(world.bundle), "--recipient", others.recipient_text]
    command += ["--sign", str(locked), "--out", str(out), "--site", str(site)]
    command += ["--key-path", str(world.keys.identity)]
    assert dispatch("patch", command) == ExitCode.SOURCE
    assert not out.exists()
    assert dispatch("patch", [*command, "--key-passphrase-file", str(words)]) == 0
    assert read_header(out, world.trusted).signer == "the vendor"
