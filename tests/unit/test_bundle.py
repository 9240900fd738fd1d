"""Bundles: what is sealed comes out again, and nothing altered ever does."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence import dsse
from relforge.frozen import canonical_json
from relforge.patching.bundle import (
    BundleIndex,
    IndexedPatch,
    open_bundle,
    opened,
    seal,
    tarstream,
    verify_ciphertext,
)
from relforge.patching.bundle import header as header_module
from relforge.patching.bundle.header import Header, header_bytes, read_header
from relforge.patching.keys import (
    Identities,
    load_identities,
    load_recipients,
    load_signer,
    load_signing_key,
    new_keys,
)
from relforge.patching.series import content_sha256, read_series
from tests.support.doc_blocks import marked
from tests.support.examples import examples
from tests.support.patching import (
    MARK,
    World,
    files_with_mark,
    flagscale_key_folder,
    make_world,
    write_patch_set,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_what_is_sealed_comes_out(world: World) -> None:
    sealed = list(open_bundle(world.bundle, world.trusted, world.identities))
    assert sealed == list(read_series(world.plain))


def test_the_header_says_what_is_needed_before_opening(world: World) -> None:
    verified = read_header(world.bundle, world.trusted)
    header = verified.header
    assert verified.signer == "the vendor"
    assert verified.signer_keyid == world.keys.signing_keyid
    assert header == world.sealed.header
    assert header.base_commit == world.base_commit
    assert header.base_tree == world.base_tree
    assert header.result_tree == world.result_tree
    assert header.device == "bi_V150"
    assert header.ships == "binaries"
    assert header.content_sha256 == read_series(world.plain).patch_set.content_sha256
    assert header.recipients[0] == load_recipients([world.keys.recipient])[0].id
    verify_ciphertext(verified)


def test_the_bundle_shows_nothing_of_the_patches(world: World) -> None:
    data = world.bundle.read_bytes()
    for secret in (MARK, b"0001-core.patch", b"engine/core.py", b"vendor.py"):
        assert secret not in data
    assert files_with_mark(world.home, world.upstream.git_dir) == []


def test_the_index_lists_each_patch_s_files(world: World) -> None:
    with opened(world.bundle, world.trusted, world.identities) as bundle:
        files = [[change.path for change in patch.files] for patch in bundle.index.patches]
    assert files == [["engine/core.py"], ["engine/vendor.py"]]


def test_debian_s_age_opens_what_we_seal(world: World, tmp_path: Path) -> None:
    """Needs Debian's package age; fails without it. The commands are those of the documentation."""
    subprocess.run(
        ["sh", "-ec", RECIPE, "sh", world.bundle, world.keys.identity], cwd=tmp_path, check=True
    )
    index = json.loads((tmp_path / "index.json").read_bytes())
    assert [patch["name"] for patch in index["patches"]] == ["0001-core.patch", "more/vendor.patch"]
    for name, data in read_series(world.plain):
        assert (tmp_path / "patches" / name).read_bytes() == data


(SHOWN,) = marked("docs/bundle-format.md", __file__)
RECIPE = SHOWN.text.replace("vendor.bundle", '"$1"').replace("vendor.age.key", '"$2"')


def test_a_vendor_s_rsa_keys_and_several_recipients(world: World, tmp_path: Path) -> None:
    folder = flagscale_key_folder(tmp_path / "rsa")
    out = tmp_path / "both.bundle"
    sealed = world.seal_again(out, recipients=load_recipients([folder, world.keys.recipient]))
    assert [r.kind for r in sealed.header.recipients] == ["rsa", "x25519"]
    want = list(read_series(world.plain))
    assert list(open_bundle(out, world.trusted, load_identities([folder]))) == want
    assert list(open_bundle(out, world.trusted, world.identities)) == want
    # The age program takes the same RSA key.
    subprocess.run(
        ["sh", "-ec", RECIPE, "sh", out, folder / "private_key.pem"], cwd=tmp_path, check=True
    )
    assert (tmp_path / "index.json").exists()


def test_sealing_twice_gives_the_same_content(world: World, tmp_path: Path) -> None:
    one = world.seal_again(tmp_path / "1.bundle", created_utc="2026-01-01T00:00:00Z")
    two = world.seal_again(tmp_path / "2.bundle", created_utc="2026-01-01T00:00:00Z")
    assert one.header.content_sha256 == two.header.content_sha256
    assert one.header.result_tree == two.header.result_tree
    assert one.header.ciphertext.sha256 != two.header.ciphertext.sha256
    plain = []
    for sealed in (one, two):
        raw = sealed.path.read_bytes()[-sealed.header.ciphertext.size_bytes :]
        plain.append(pyrage.decrypt(raw, [key.native for key in world.identities.keys]))
    assert plain[0] == plain[1]


def test_the_wrong_key_names_what_was_tried_and_what_would_work(
    world: World, tmp_path: Path
) -> None:
    other = new_keys(tmp_path, "other")
    rsa = flagscale_key_folder(tmp_path / "rsa")
    for wrong in ([other.identity], [rsa]):
        identities = load_identities(wrong)
        with pytest.raises(RelforgeError, match="none of the private keys") as caught:
            list(open_bundle(world.bundle, world.trusted, identities))
        assert caught.value.code is ExitCode.SOURCE
        assert str(identities.keys[0].path) in str(caught.value)
        assert world.sealed.header.recipients[0].fingerprint in str(caught.value)
    with pytest.raises(RelforgeError, match="no private key"):
        list(open_bundle(world.bundle, world.trusted, Identities()))


def test_a_header_that_lies_about_recipients_helps_nobody(world: World, tmp_path: Path) -> None:
    other = load_identities([new_keys(tmp_path, "other").identity])
    lying = rewritten(world, tmp_path, lambda h: {"recipients": (other.keys[0].id,)})
    with pytest.raises(RelforgeError, match="none of the private keys"):
        list(open_bundle(lying, world.trusted, other))


def test_unsigned_and_strangers_bundles_are_refused(world: World, tmp_path: Path) -> None:
    unsigned = tmp_path / "unsigned.bundle"
    world.seal_again(unsigned, signing_key=None)
    with pytest.raises(RelforgeError, match="not signed") as caught:
        read_header(unsigned, world.trusted)
    assert caught.value.code is ExitCode.SOURCE

    stranger = new_keys(tmp_path, "stranger")
    strange = tmp_path / "strange.bundle"
    world.seal_again(strange, signing_key=load_signing_key(stranger.signing_key))
    with pytest.raises(RelforgeError, match="not trusted here") as caught:
        list(open_bundle(strange, world.trusted, world.identities))
    assert stranger.signing_keyid in str(caught.value)
    assert "trusted_keys" in str(caught.value)

    for path in (unsigned, strange):
        verified = read_header(path, world.trusted, allow_unsigned=True)
        assert verified.signer is None
        patches = open_bundle(path, world.trusted, world.identities, allow_unsigned=True)
        assert list(patches) == list(read_series(world.plain))


def test_allowing_unsigned_does_not_allow_forged(world: World, tmp_path: Path) -> None:
    data = world.bundle.read_bytes()
    forged = tmp_path / "forged.bundle"
    at = data.index(b'"payload":"') + len(b'"payload":"')
    other = b"f" if data[at + 40 : at + 41] != b"f" else b"g"
    forged.write_bytes(data[: at + 40] + other + data[at + 41 :])
    with pytest.raises(RelforgeError):
        read_header(forged, world.trusted, allow_unsigned=True)


def test_there_must_be_a_recipient(world: World, tmp_path: Path) -> None:
    with pytest.raises(RelforgeError, match="at least one recipient"):
        world.seal_again(tmp_path / "x.bundle", recipients=())
    assert not (tmp_path / "x.bundle").exists()


def test_patches_that_do_not_apply_are_not_sealed(world: World, tmp_path: Path) -> None:
    out = tmp_path / "x.bundle"
    out.write_bytes(b"an older bundle")
    with pytest.raises(RelforgeError, match="does not apply") as caught:
        world.seal_again(out, base_tree=world.tree_without_the_lines())
    assert caught.value.code is ExitCode.SOURCE
    assert out.read_bytes() == b"an older bundle"
    assert list(tmp_path.iterdir()) == [out]
    assert list((world.home / "work").iterdir()) == []


# --- alterations -------------------------------------------------------------------------------


def refused(path: Path, world: World) -> RelforgeError:
    with pytest.raises(RelforgeError) as caught:
        list(open_bundle(path, world.trusted, world.identities))
    assert caught.value.code is ExitCode.SOURCE
    return caught.value


@examples(250)
@given(data=st.data())
def test_no_flipped_bit_passes(world: World, data: st.DataObject) -> None:
    raw = bytearray(world.bundle.read_bytes())
    start = world.sealed.size_bytes - world.sealed.header.ciphertext.size_bytes
    region = data.draw(st.sampled_from([(0, 18), (18, 22), (22, start), (start, len(raw))]))
    at = data.draw(st.integers(region[0], region[1] - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    path = world.root / "flipped.bundle"
    path.write_bytes(raw)
    refused(path, world)


@examples(100)
@given(data=st.data())
def test_no_cut_and_no_addition_passes(world: World, data: st.DataObject) -> None:
    raw = world.bundle.read_bytes()
    path = world.root / "cut.bundle"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    refused(path, world)
    path.write_bytes(raw + data.draw(st.binary(min_size=1, max_size=50)))
    refused(path, world)


@examples(100)
@given(data=st.binary(max_size=400), magic=st.booleans())
def test_any_bytes_are_refused(world: World, data: bytes, magic: bool) -> None:
    path = world.root / "random.bundle"
    path.write_bytes((header_module.MAGIC if magic else b"") + data)
    refused(path, world)


def rewritten(
    world: World, folder: Path, change: Callable[[Header], dict[str, object]], body: bytes = b""
) -> Path:
    """The bundle with another header or body, signed by the vendor's own key."""
    raw = world.bundle.read_bytes()
    header = world.sealed.header
    changed = header.model_copy(update=change(header))
    path = folder / "rewritten.bundle"
    path.write_bytes(
        header_bytes(changed, load_signing_key(world.keys.signing_key))
        + (body or raw[-header.ciphertext.size_bytes :])
    )
    return path


def test_a_newer_format_says_so(world: World, tmp_path: Path) -> None:
    path = tmp_path / "new.bundle"
    path.write_bytes(b"relforge-bundle/2\n" + world.bundle.read_bytes()[18:])
    assert "newer relforge" in str(refused(path, world))


def test_an_unknown_field_or_another_spelling_of_the_header_is_refused(
    world: World, tmp_path: Path
) -> None:
    key = load_signing_key(world.keys.signing_key)
    body = world.bundle.read_bytes()[-world.sealed.header.ciphertext.size_bytes :]
    value = world.sealed.header.model_dump(mode="json")
    for payload in (
        canonical_json({**value, "extra": 1}),
        canonical_json({**value, "version": 2}),
        canonical_json({**value, "base_tree": "HEAD"}),
        json.dumps(value, indent=1).encode(),
        b"[]",
    ):
        envelope = dsse.sign(header_module.PAYLOAD_TYPE, payload, key).to_json()
        path = tmp_path / "x.bundle"
        path.write_bytes(header_module.MAGIC + len(envelope).to_bytes(4, "big") + envelope + body)
        assert "header" in str(refused(path, world))


Tar = list[tuple[str, bytes]]


def resealed(world: World, folder: Path, change: Callable[[Tar], Tar], tail: bytes = b"") -> Path:
    """An insider's attempt: other plaintext, honestly encrypted, hashed and signed."""
    with opened(world.bundle, world.trusted, world.identities) as bundle:
        index = bundle.index
        members: Tar = [("index.json", canonical_json(index))]
        members += [(f"patches/{p.name}", b"".join(chunks)) for p, chunks in bundle.patches()]
    plain = b""
    for name, data in change(members):
        plain += tarstream.member_header(name, len(data)) + data + tarstream.padding(len(data))
    plain += tarstream.end() + tail
    recipients = load_recipients([world.keys.recipient])
    body = pyrage.encrypt(plain, [recipient.native for recipient in recipients])
    digest = header_module.Ciphertext(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))
    return rewritten(world, folder, lambda h: {"ciphertext": digest}, body)


def _reindexed(members: Tar, change: Callable[[list[IndexedPatch]], list[IndexedPatch]]) -> Tar:
    index = BundleIndex.model_validate_json(members[0][1])
    changed = index.model_copy(update={"patches": tuple(change(list(index.patches)))})
    return [("index.json", canonical_json(changed)), *members[1:]]


@examples(60)
@given(data=st.data())
def test_no_other_order_choice_or_number_of_patches_passes(
    world: World, data: st.DataObject
) -> None:
    """With the index as it was, and with one that fits the new order."""
    count = len(read_series(world.plain).patch_set.patches)
    order = data.draw(st.lists(st.integers(0, count - 1), max_size=count + 2))
    fitting = data.draw(st.booleans())

    def change(members: Tar) -> Tar:
        chosen = [members[0], *(members[1 + at] for at in order)]
        return _reindexed(chosen, lambda p: [p[at] for at in order]) if fitting else chosen

    path = resealed(world, world.root, change)
    if order == list(range(count)):
        assert len(list(open_bundle(path, world.trusted, world.identities))) == count
    else:
        refused(path, world)


@examples(60)
@given(data=st.data())
def test_changed_plaintext_never_gives_other_patches_even_when_sealed_and_signed(
    world: World, data: st.DataObject
) -> None:
    """The archive itself, flipped or cut by someone who can encrypt and sign.

    What such a signer says in `files` about each patch is compared when the patches are applied.
    """
    recipients = load_recipients([world.keys.recipient])
    raw = world.bundle.read_bytes()[-world.sealed.header.ciphertext.size_bytes :]
    plain = bytearray(pyrage.decrypt(raw, [key.native for key in world.identities.keys]))
    at = data.draw(st.integers(0, len(plain) - 1))
    if data.draw(st.booleans()):
        plain[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del plain[at:]
    body = pyrage.encrypt(bytes(plain), [recipient.native for recipient in recipients])
    digest = header_module.Ciphertext(sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))
    path = rewritten(world, world.root, lambda h: {"ciphertext": digest}, body)
    refusal: ExitCode | None = None
    try:
        handed_out = list(open_bundle(path, world.trusted, world.identities))
    except RelforgeError as error:
        refusal = error.code
    else:
        assert handed_out == list(read_series(world.plain))
        assert b'"files"' in plain[:at], "nothing else is left for later"
    assert refusal in (None, ExitCode.SOURCE)


CONTENT_CHANGES: dict[str, Callable[[Tar], Tar]] = {
    "reordered": lambda m: [m[0], m[2], m[1]],
    "reordered with index": lambda m: _reindexed([m[0], m[2], m[1]], lambda p: p[::-1]),
    "dropped": lambda m: m[:-1],
    "dropped with index": lambda m: _reindexed(m[:-1], lambda p: p[:-1]),
    "doubled": lambda m: [*m, m[-1]],
    "doubled with index": lambda m: _reindexed([*m, m[-1]], lambda p: [*p, p[-1]]),
    "none": lambda m: _reindexed(m[:1], lambda p: []),
    "changed": lambda m: [m[0], (m[1][0], m[1][1].replace(b"one", b"ONE")), m[2]],
    "renamed": lambda m: [m[0], ("patches/../../evil", m[1][1]), m[2]],
    "no index": lambda m: m[1:],
    "bad index": lambda m: [("index.json", b"{}"), *m[1:]],
    "one more": lambda m: [*m, ("patches/extra", b"x")],
    "empty": lambda m: [],
}


@pytest.mark.parametrize("case", CONTENT_CHANGES)
def test_other_content_than_was_signed_is_refused(world: World, tmp_path: Path, case: str) -> None:
    refused(resealed(world, tmp_path, CONTENT_CHANGES[case]), world)


def test_an_unchanged_reseal_opens(world: World, tmp_path: Path) -> None:
    path = resealed(world, tmp_path, lambda m: m)
    assert list(open_bundle(path, world.trusted, world.identities)) == list(
        read_series(world.plain)
    )
    assert "more in the archive" in str(
        refused(resealed(world, tmp_path, lambda m: m, tail=b"hidden"), world)
    )


def test_nothing_is_handed_out_before_it_is_verified(world: World, tmp_path: Path) -> None:
    path = resealed(world, tmp_path, CONTENT_CHANGES["changed"])
    patches = open_bundle(path, world.trusted, world.identities)
    with pytest.raises(RelforgeError):
        next(patches)


def test_a_bundle_that_is_not_read_to_its_end_closes_cleanly(world: World, tmp_path: Path) -> None:
    big = write_patch_set(tmp_path / "big", {})
    patch = world.plain / "0001-core.patch"
    (big / "a.patch").write_bytes(patch.read_bytes())
    filler = b"".join(b"# %d\n" % i for i in range(600_000))
    (big / "b.patch").write_bytes(filler + (world.plain / "more/vendor.patch").read_bytes())
    (big / "series").write_text("a.patch\nb.patch\n")
    out = tmp_path / "big.bundle"
    seal(
        read_series(big),
        store_git_dir=world.upstream.git_dir,
        source=world.sealed.header.source,
        base_commit=world.base_commit,
        base_tree=world.base_tree,
        device=None,
        ships="none",
        creator="x",
        recipients=load_recipients([world.keys.recipient]),
        signing_key=load_signing_key(world.keys.signing_key),
        out=out,
        home=world.home,
    )
    patches = open_bundle(out, world.trusted, world.identities)
    assert next(patches)[0] == "a.patch"
    patches.close()  # type: ignore[attr-defined]
    assert [name for name, _ in open_bundle(out, world.trusted, world.identities)] == [
        "a.patch",
        "b.patch",
    ]


def test_the_index_of_a_bundle_gives_its_content_hash(world: World) -> None:
    with opened(world.bundle, world.trusted, world.identities) as bundle:
        assert content_sha256(bundle.index.patches) == world.sealed.header.content_sha256


def test_a_missing_bundle_and_a_signer_of_no_key(tmp_path: Path, world: World) -> None:
    assert "cannot be read" in str(refused(tmp_path / "absent.bundle", world))
    assert load_signer("x", world.keys.signing_public).keyid == world.keys.signing_keyid
