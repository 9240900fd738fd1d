"""Everything that reads bytes from strangers, as functions that fuzzers call.

A target takes any bytes. It passes over the errors that a user would be shown (exit code 4) and the
parser's own refusal; whatever else it raises is a fault. Where there is an oracle it asserts.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence import dsse
from relforge.frozen import canonical_json
from relforge.patching.bundle import tarstream
from relforge.patching.bundle.header import (
    MAGIC,
    BundleSource,
    Ciphertext,
    GitOrigin,
    Header,
    header_bytes,
    parse_header,
)
from relforge.patching.bundle.opening import INDEX, BundleIndex, IndexedPatch
from relforge.patching.flagscale import sealed
from relforge.patching.flagscale.diff_yaml import read_diff_yaml, write_diff_yaml
from relforge.patching.flagscale.history import read_history, write_history
from relforge.patching.flagscale.legacy import read_hetero
from relforge.patching.keys import keyfiles
from relforge.patching.keys.identities import load_identities
from relforge.patching.keys.recipients import recipients_in
from relforge.patching.mailbox import EncodedDiff, pieces
from relforge.patching.series import check_patch_name, read_series

Target = Callable[[bytes], None]
WHERE = "input"


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Errors that are meant for users pass; they must be what they are for every bad input."""
    try:
        yield
    except RelforgeError as error:
        if error.code not in (ExitCode.SOURCE, ExitCode.USAGE):
            raise AssertionError(f"exit code {error.code}: {error}") from error


def bundle(data: bytes) -> None:
    """A bundle's header: from the magic to the end of the envelope, unsigned ones too."""
    handle = os.fdopen(os.memfd_create("bundle"), "w+b")
    with handle, refusals():
        handle.write(data)
        handle.seek(0)
        read = parse_header(handle, Path(WHERE), [_signer()], allow_unsigned=True)
        # One spelling: what was understood is written as it was read.
        assert canonical_json(read.header) in _payload(data)


def envelope(data: bytes) -> None:
    """A DSSE envelope."""
    with refusals():
        read = dsse.parse(data, where=WHERE)
        assert dsse.parse(read.to_json()) == read


def tar(data: bytes) -> None:
    """The archive inside a bundle, as someone who holds a recipient's public key could make it."""
    try:
        reader = tarstream.Reader(io.BytesIO(data))
        raw = reader.first(INDEX, 1 << 20)
        index = BundleIndex.model_validate_json(raw)
        out = tarstream.member_header(INDEX, len(raw)) + raw + tarstream.padding(len(raw))
        for patch in index.patches:
            if check_patch_name(patch.name):
                return
            content = b"".join(reader.member(f"patches/{patch.name}", patch.size_bytes))
            out += tarstream.member_header(f"patches/{patch.name}", patch.size_bytes)
            out += content + tarstream.padding(patch.size_bytes)
        reader.finish()
    except (tarstream.UnexpectedContent, ValidationError):
        return
    assert out + tarstream.end() == data, "two archives with one meaning"


def series(data: bytes) -> None:
    """A ``series`` file, in a folder with one patch."""
    folder = _series_folder()
    (folder / "series").write_bytes(data)
    with refusals():
        found = read_series(folder)
        assert {patch.name for patch in found.patch_set.patches} <= {"a.patch", "more/b.patch"}


def mailbox(data: bytes) -> None:
    """A mailbox gives the same diffs however it is cut into chunks."""
    step = 1 + (data[0] if data else 0) % 7
    cut = [data[at : at + step] for at in range(0, len(data), step)]
    assert _diffs([data]) == _diffs(cut)


def keys(data: bytes) -> None:
    """Key files: private and public ones."""
    path = _folder() / "some.key"
    path.write_bytes(data)
    path.chmod(0o600)
    if b"-> scrypt" not in data:  # stretching a passphrase takes a second each time
        with refusals():
            load_identities([path], passphrase=lambda _path: "passphrase")
    with refusals():
        recipients_in(path, data)
    keyfiles.is_protected(data)


def flagscale_sealed(data: bytes) -> None:
    """FlagScale's sealed file, also with a key that opens any."""
    with refusals():
        head, body = sealed.split_head([data[at : at + 300] for at in range(0, len(data), 300)])
        if len(head) < sealed.HEAD_BYTES:
            sealed.unwrap(head, [], where=WHERE)
        b"".join(sealed.open_chunks(head, body, bytes(32), where=WHERE))


def diff_yaml(data: bytes) -> None:
    """FlagScale's ``diff.yaml``: what is read and written again means the same."""
    with refusals():
        read = read_diff_yaml(data, WHERE)
        assert read_diff_yaml(write_diff_yaml(read), WHERE) == read


def patch_history(data: bytes) -> None:
    """FlagScale's ``patch_history.yaml``."""
    with refusals():
        read = read_history(data, WHERE)
        assert read_history(write_history(read), WHERE) == read


def hetero(data: bytes) -> None:
    """FlagScale's list of devices that train together."""
    with refusals():
        read_hetero(data)


TARGETS: dict[str, Target] = {
    "bundle": bundle,
    "envelope": envelope,
    "tar": tar,
    "series": series,
    "mailbox": mailbox,
    "keys": keys,
    "flagscale-sealed": flagscale_sealed,
    "diff-yaml": diff_yaml,
    "patch-history": patch_history,
    "hetero": hetero,
}


@functools.cache
def seeds(name: str) -> list[bytes]:
    """Valid inputs of a target, to start from; the same ones each time, signatures and all."""
    return _SEEDS[name]()


def _bundle_seeds() -> list[bytes]:
    header = Header(
        name="set",
        source=BundleSource(
            name="engine", origin=GitOrigin(url="https://git.invalid/e", commit="0" * 40)
        ),
        base_commit="0" * 40,
        base_tree="1" * 40,
        device="bi_V150",
        recipients=(),
        ciphertext=Ciphertext(sha256="2" * 64, size_bytes=1),
        content_sha256="3" * 64,
        result_tree="4" * 40,
        ships="binaries",
        creator="somebody",
        created_utc="2026-01-01T00:00:00Z",
    )
    return [header_bytes(header, key) + b"c" for key in (None, _signing_key())]


def _tar_seeds() -> list[bytes]:
    patches = (
        IndexedPatch(name="a.patch", sha256=_hash(b"abc"), size_bytes=3, files=()),
        IndexedPatch(name="b" * 120 + ".patch", sha256=_hash(b""), size_bytes=0, files=()),
    )
    found = []
    for some in (patches, patches[:1]):
        raw = canonical_json(BundleIndex(patches=some))
        out = tarstream.member_header(INDEX, len(raw)) + raw + tarstream.padding(len(raw))
        for patch, content in zip(some, (b"abc", b""), strict=False):
            out += tarstream.member_header(f"patches/{patch.name}", len(content))
            out += content + tarstream.padding(len(content))
        found.append(out + tarstream.end())
    return found


def _mailbox_seeds() -> list[bytes]:
    start = b"From " + b"a" * 40 + b" Mon Sep 17 00:00:00 2001\n"
    mail = start + b"Subject: x\n\ntext\n---\n a | 1 +\n\ndiff --git a/a b/a\n--- a/a\n+++ b/a\n"
    mail += b"@@ -0,0 +1 @@\n+x\n-- \n2.39\n\n"
    coded = start + b"Content-Transfer-Encoding: base64\n\nabc\n---\ndiff --git a/a b/a\n"
    return [mail, mail * 2, b"\n" + mail.replace(b"\n", b"\r\n"), coded, mail[60:], start * 2]


def _key_seeds() -> list[bytes]:
    from cryptography.hazmat.primitives import serialization as s

    key = _rsa()
    found = [
        key.private_bytes(s.Encoding.PEM, form, s.NoEncryption())
        for form in (s.PrivateFormat.TraditionalOpenSSL, s.PrivateFormat.OpenSSH)
    ]
    public = key.public_key()
    found.append(public.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    found.append(public.public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH))
    armor = base64.b64encode(b"age-encryption.org/v1\n-> X25519 abc\n--- x\n")
    return [
        *found,
        b"# public key: age1\nAGE-SECRET-KEY-1" + b"Q" * 58 + b"\n",
        b"-----BEGIN AGE ENCRYPTED FILE-----\n" + armor + b"\n-----END AGE ENCRYPTED FILE-----\n",
        b"age1" + b"q" * 58,
    ]


def _yaml_seeds() -> list[bytes]:
    return [
        b"device_type: BI_V150\ntask: inference\nbackends_version:\n  vllm: v0.8\n"
        b"commit: 1234567\ncontact: a@b\nmodels: [x]\n",
        b"commit: abc\ntask: [train, inference]\nbackends_commit: {FlagScale: x}\n",
    ]


@functools.cache
def _signing_key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(7, ec.SECP256R1())


_SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "bundle": _bundle_seeds,
    "envelope": lambda: [
        dsse.sign("application/x-test", b'{"a":1}', _signing_key()).to_json(),
        dsse.Envelope("x", b"", ()).to_json(),
    ],
    "tar": _tar_seeds,
    "series": lambda: [b"a.patch\nmore/b.patch -p1 # last\n", b"# none\n\na.patch\n"],
    "mailbox": _mailbox_seeds,
    "keys": _key_seeds,
    "flagscale-sealed": lambda: [bytes(sealed.SMALLEST_BYTES), bytes(4096)],
    "diff-yaml": _yaml_seeds,
    "patch-history": lambda: [
        b"BI_V150:\n  inference:\n    vllm:\n    - 1234567\n    - abcdef0\n",
        b"{}\n",
    ],
    "hetero": lambda: [b"12345678: A_X100 B_Y200\n", b"12345678: A_X100\n" * 3],
}


def _payload(data: bytes) -> bytes:
    length = int.from_bytes(data[len(MAGIC) :][:4], "big")
    return dsse.parse(data[len(MAGIC) + 4 :][:length]).payload


def _diffs(chunks: list[bytes]) -> list[bytes] | str:
    try:
        return [b"".join(diff) for diff in itertools.islice(pieces(chunks), 1000)]
    except EncodedDiff:
        return "encoded"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@functools.cache
def _signer() -> dsse.TrustedSigner:
    return dsse.TrustedSigner("maker", _signing_key().public_key())


@functools.cache
def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@functools.cache
def _area() -> tempfile.TemporaryDirectory[str]:
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)


def _folder() -> Path:
    return Path(_area().name)


@functools.cache
def _series_folder() -> Path:
    folder = _folder() / "set"
    (folder / "more").mkdir(parents=True)
    for name in ("a.patch", "more/b.patch"):
        (folder / name).write_bytes(b"diff\n")
    return folder
