"""Keys on the command line: passphrases, keys that others can read, odd files, exact errors."""

from __future__ import annotations

import getpass
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from relforge import hostcheck
from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import Site
from relforge.manifest.site_file import load_site
from relforge.patching.keys import (
    LockedKey,
    exposed_keys,
    load_identities,
    load_recipients,
    load_signer,
    load_signing_key,
    new_keys,
    passphrase_from,
)
from relforge.patching.keys import passphrase as passphrase_module
from relforge.patching.locate import trusted_signers
from tests.support.patching import (
    World,
    flagscale_key_folder,
    make_world,
    rsa_private_pem,
    rsa_public_pem,
)

SECRET = "correct horse battery"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def site(world: World, tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    key = world.keys.signing_public
    file.write_text(f"home: home\ntrusted_keys:\n- {{name: the vendor, public_key: {key}}}\n")
    return file


def protected(path: Path, form: PrivateFormat = PrivateFormat.PKCS8) -> Path:
    path.write_bytes(rsa_private_pem(form, SECRET.encode()))
    path.chmod(0o600)
    return path


def for_rsa(world: World, folder: Path) -> Path:
    """The world's bundle, sealed for the RSA key of the tests."""
    public = folder / "public_key.pem"
    public.write_bytes(rsa_public_pem())
    return world.seal_again(folder / "rsa.bundle", recipients=load_recipients([public])).path


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.OpenSSH])
def test_the_passphrase_comes_from_a_file(
    world: World,
    site: Path,
    tmp_path: Path,
    form: PrivateFormat,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key, bundle = protected(tmp_path / "id.pem", form), for_rsa(world, tmp_path)
    words = tmp_path / "words"
    words.write_text(f"{SECRET}\nanother line\n")
    words.chmod(0o644)
    out = tmp_path / "out"
    options = ["--key-path", str(key), "--key-passphrase-file", str(words), "--site", str(site)]
    code = dispatch("patch", ["open", str(bundle), "--dir", str(out), *options])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert (out / "series").exists()
    assert f"warning: {words}: other users of this machine can read the passphrase" in shown.err
    assert SECRET not in shown.out + shown.err


def test_without_terminal_and_file_the_exact_next_command_is_shown(
    world: World, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, bundle = protected(tmp_path / "id.pem"), for_rsa(world, tmp_path)
    words = ["open", str(bundle), "--dir", str(tmp_path / "out out"), "--key-path", str(key)]
    words += ["--site", str(site)]
    assert dispatch("patch", words) == ExitCode.SOURCE
    again = shlex.join(["relforge", "patch", *words, "--key-passphrase-file", "FILE"])
    shown = capsys.readouterr().err
    assert again in shown
    assert str(key) in shown
    assert not (tmp_path / "out out").exists()


def test_the_terminal_is_asked_once_per_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, asked = protected(tmp_path / "id.pem"), []

    def answer(prompt: str, stream: object) -> str:
        asked.append(prompt)
        return SECRET

    monkeypatch.setattr(getpass, "getpass", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(passphrase_module, "_answers", {})
    for _ in range(3):
        assert len(load_identities([key], passphrase=passphrase_from(None)).keys) == 1
    assert asked == [f"passphrase of {key}: "]
    # Looks at the host ask nobody, and know what was answered.
    assert hostcheck.identities([key]).state == "ok"


@pytest.mark.parametrize(("content", "why"), [(b"", "is empty"), (None, "cannot be read")])
def test_a_passphrase_file_that_is_none(tmp_path: Path, content: bytes | None, why: str) -> None:
    key, words = protected(tmp_path / "id.pem"), tmp_path / "words"
    if content is not None:
        words.write_bytes(content)
    with pytest.raises(RelforgeError, match=why) as caught:
        load_identities([key], passphrase=passphrase_from(words))
    assert caught.value.code is ExitCode.SOURCE
    assert caught.value.where == str(words)


def test_a_wrong_passphrase_names_the_key_and_not_itself(tmp_path: Path) -> None:
    key, words = protected(tmp_path / "id.pem"), tmp_path / "words"
    words.write_text("not the right one")
    with pytest.raises(RelforgeError, match="does not open") as caught:
        load_identities([key], passphrase=passphrase_from(words))
    assert caught.value.where == str(key)
    assert "not the right one" not in str(caught.value)


def test_odd_files_in_a_key_folder_do_not_hide_the_good_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = new_keys(tmp_path, "good")
    (tmp_path / "broken.key").write_text("AGE-SECRET-KEY-1QQQQ\n")
    (tmp_path / "broken.pem").write_text("-----BEGIN PRIVATE KEY-----\nAA\n")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "data.age").write_bytes(b"age-encryption.org/v1\n-> X25519 x\n")
    protected(tmp_path / "locked.pem")
    found = load_identities([tmp_path])
    assert [key.path for key in found.keys] == [made.identity]
    assert {(f.path.name, f.kind) for f in found.findings} == {
        ("broken.key", "unusable"),
        ("broken.pem", "unusable"),
        ("locked.pem", "locked"),
    }
    look = hostcheck.identities([tmp_path])
    assert look.state == "warning"
    for name in ("broken.key", "broken.pem", "locked.pem"):
        assert f"{tmp_path / name}: " in look.found
    assert dispatch("keys", ["show", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {Path(key["file"]).name for key in shown["keys"]} == {
        "good.age.key",
        "good.age.pub",
        "good.sign.pem",
        "good.sign.pub.pem",
    }
    assert len(shown["findings"]) == 3


def test_a_bad_key_beside_a_good_one_is_named_by_doctor(tmp_path: Path) -> None:
    made, absent = new_keys(tmp_path / "k", "me"), tmp_path / "absent"
    look = hostcheck.identities([absent, made.identity])
    assert look.state == "missing", "commands that need keys end with exit code 4"
    assert f"{absent}: the key cannot be read" in look.found
    assert str(made.identity) in look.found
    made.identity.chmod(0o644)
    look = hostcheck.identities([made.identity])
    assert (look.state, look.remedy) == ("warning", f"chmod 600 {made.identity}")


def test_a_folder_with_only_a_locked_key_asks_for_its_passphrase(tmp_path: Path) -> None:
    key = protected(tmp_path / "locked.pem")
    with pytest.raises(LockedKey) as caught:
        load_identities([tmp_path])
    assert caught.value.where == str(key)


@pytest.mark.parametrize("kind", ["rsa for age", "age for rsa", "another age"])
def test_the_wrong_key_says_what_was_tried_and_what_would_work(
    world: World, site: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "keys"
    if kind == "rsa for age":
        bundle, tried = world.bundle, flagscale_key_folder(folder) / "private_key.pem"
    else:
        bundle = for_rsa(world, tmp_path) if kind == "age for rsa" else world.bundle
        tried = new_keys(folder, "other").identity
    # The right key's public half lies beside the wrong one: its file tells people whose it is.
    (right,) = load_recipients(
        [world.keys.recipient if kind != "age for rsa" else tmp_path / "public_key.pem"]
    )
    (folder / "wanted.pub").write_text(right.text + "\n")
    (folder / "odd.key").write_text("AGE-SECRET-KEY-1QQQQ\n")
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out"
    code = dispatch(
        "patch",
        ["open", str(bundle), "--dir", str(out), "--key-path", str(folder), "--site", str(site)],
    )
    shown = capsys.readouterr().err
    assert code == ExitCode.SOURCE
    assert str(tried) in shown
    assert right.id.fingerprint in shown
    assert str(folder / "wanted.pub") in shown
    assert f"{folder / 'odd.key'} (the AGE-SECRET-KEY line is damaged)" in shown
    if kind == "rsa for age":
        assert "takes the age X25519 key" in shown
        assert "only RSA keys were tried" in shown
    elif kind == "age for rsa":
        assert "takes the RSA key" in shown
    written = [p for p in sorted(tmp_path.rglob("*")) if p not in before and p.is_file()]
    assert [p for p in written if "home" not in p.parts] == []


def test_every_kind_of_key_in_the_wrong_place_says_what_it_is(tmp_path: Path) -> None:
    made = new_keys(tmp_path / "k", "me")
    pem = flagscale_key_folder(tmp_path / "f") / "private_key.pem"
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: load_identities([made.signing_key]), "it may sign, it opens nothing"),
        (lambda: load_identities([made.recipient]), "it is a public key"),
        (lambda: load_identities([tmp_path / "f/public_key.pem"]), "it is a public key"),
        (lambda: load_signing_key(made.identity), "it is an age identity"),
        (lambda: load_signing_key(pem), "it is an RSA key"),
        (lambda: load_signing_key(made.signing_public), "it is a public key"),
        (lambda: load_signer("x", made.signing_key), "it is a private key"),
        (lambda: load_recipients([made.signing_public]), "this is neither"),
        (lambda: load_recipients([made.identity]), "it is a private key"),
    ]
    for call, why in cases:
        with pytest.raises(RelforgeError, match="cannot be used") as caught:
            call()
        assert why in str(caught.value)
        assert caught.value.code is ExitCode.SOURCE


def test_a_key_that_others_can_read_is_warned_of_wherever_it_is_used(
    world: World, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = new_keys(tmp_path / "k", "me")
    for path in (made.identity, made.signing_key):
        path.chmod(0o640)
        (finding,) = exposed_keys([path])
        assert finding.remedy == f"chmod 600 {path}"
    assert [f.path for f in exposed_keys([tmp_path / "k", tmp_path / "absent"])] == [
        made.identity,
        made.signing_key,
    ]
    copy = tmp_path / "copy.bundle"
    copy.write_bytes(world.bundle.read_bytes())
    words = ["--key-path", str(made.identity), "--site", str(site)]
    dispatch("patch", ["open", str(copy), "--dir", str(tmp_path / "o"), *words])
    assert f"warning: {made.identity}: other users" in capsys.readouterr().err
    rotate = ["rotate", str(copy), "--recipient", made.recipient_text]
    dispatch("patch", [*rotate, "--sign", str(made.signing_key), *words])
    shown = capsys.readouterr().err
    assert f"warning: {made.identity}: other users" in shown
    assert f"warning: {made.signing_key}: other users" in shown
    dispatch("unpatch", ["--device", "nonsense", *words])
    assert f"warning: {made.identity}: other users" in capsys.readouterr().err


def test_a_run_asks_before_it_starts_and_only_when_a_stage_will_need_it(
    tmp_path: Path, world: World
) -> None:
    """Later the screen belongs to the stages."""
    from relforge.cli.common import Workplace
    from relforge.cli.passphrases import ask_for_passphrases
    from relforge.plan import ReleasePlan
    from relforge.stage import Resources
    from relforge.stages.preflight import PreflightInputs

    key = protected(tmp_path / "id.pem")
    place = cast(Workplace, SimpleNamespace(site=Site(identities=(key,))))

    def plan_with(inputs: PreflightInputs) -> ReleasePlan:
        return cast(ReleasePlan, SimpleNamespace(inputs={"preflight": inputs}))

    needs = PreflightInputs(
        needs=Resources(), secrets=("identities",), bootstraps=False, evaluates=False
    )
    with pytest.raises(LockedKey):
        ask_for_passphrases(plan_with(needs), place)
    unneeded = needs.model_copy(update={"secrets": ()})
    ask_for_passphrases(plan_with(unneeded), place)


def test_a_trusted_key_that_cannot_be_read_names_the_site_s_entry(tmp_path: Path) -> None:
    from relforge.manifest.project import builtin_root, find_project

    made = new_keys(tmp_path / "k", "me")
    file = tmp_path / "site.yaml"
    file.write_text(
        "trusted_keys:\n"
        f"- {{name: good, public_key: {made.signing_public}}}\n"
        f"- {{name: the vendor, public_key: {made.recipient}}}\n"
        "- {name: gone, public_key: absent.pem}\n"
    )
    device = find_project(builtin_root(), None).device("cpu_x86")
    site = load_site(file)
    with pytest.raises(RelforgeError, match="the vendor") as caught:
        trusted_signers(site, device)
    assert caught.value.where == f"{file}: trusted_keys[1] (the vendor)"
    assert str(made.recipient) in str(caught.value)
    entries = site.trusted_keys
    with pytest.raises(RelforgeError) as caught:
        trusted_signers(site.model_copy(update={"trusted_keys": entries[::2]}), device)
    assert caught.value.where == f"{file}: trusted_keys[1] (gone)"
    assert str(tmp_path / "absent.pem") in str(caught.value)
