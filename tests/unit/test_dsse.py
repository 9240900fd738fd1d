"""Signed envelopes: what DSSE v1 says, and that nothing altered passes."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from relforge.errors import ExitCode, RelforgeError
from relforge.evidence import dsse
from tests.support.examples import examples

TYPE = "application/x-test"
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def signer(key: dsse.PrivateKey, name: str = "maker") -> dsse.TrustedSigner:
    return dsse.TrustedSigner(name, key.public_key())


def test_pae_is_the_one_of_the_specification() -> None:
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("tü", b"\x00") == b"DSSEv1 3 t\xc3\xbc 1 \x00"


def test_the_specification_s_own_signature_verifies() -> None:
    # protocol.md, test vectors: ECDSA over P-256, deterministic, signature as r || s.
    public = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    ).public_key()
    raw = base64.b64decode(
        "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    )
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    kind = "http://example.com/HelloWorld"
    signed = dsse.TrustedSigner("specification", public)
    envelope = dsse.Envelope(kind, b"hello world", (dsse.Signature(signed.keyid, der),))
    assert dsse.verify(envelope, [signed], payload_type=kind).payload == b"hello world"


@pytest.mark.parametrize("key", [EC, ED], ids=["ecdsa", "ed25519"])
def test_what_is_signed_is_read_back(key: dsse.PrivateKey) -> None:
    raw = dsse.sign(TYPE, b"\x00 payload", key).to_json()
    done = dsse.verify(dsse.parse(raw), [signer(EC), signer(ED)], payload_type=TYPE)
    assert done.payload == b"\x00 payload"
    assert done.signer.keyid == dsse.key_id(key.public_key())


def test_a_signer_nobody_trusts_is_named_by_key_id() -> None:
    envelope = dsse.sign(TYPE, b"p", EC)
    with pytest.raises(dsse.UnknownSigner) as caught:
        dsse.verify(envelope, [signer(ED)], payload_type=TYPE, where="x.bundle")
    assert caught.value.code is ExitCode.SOURCE
    assert dsse.key_id(EC.public_key()) in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.keyids == caught.value.keyids
    assert str(again) == str(caught.value)


def test_an_unsigned_envelope_is_nobody_s() -> None:
    with pytest.raises(dsse.UnknownSigner) as caught:
        dsse.verify(dsse.Envelope(TYPE, b"p", ()), [signer(EC)], payload_type=TYPE)
    assert caught.value.keyids == ()


@pytest.mark.parametrize("key", [EC, ED], ids=["ecdsa", "ed25519"])
def test_a_trusted_key_id_with_another_payload_is_an_alteration(key: dsse.PrivateKey) -> None:
    good = dsse.sign(TYPE, b"p", key)
    forged = dsse.Envelope(TYPE, b"q", good.signatures)
    with pytest.raises(RelforgeError, match="altered") as caught:
        dsse.verify(forged, [signer(key)], payload_type=TYPE)
    assert not isinstance(caught.value, dsse.UnknownSigner)
    assert caught.value.code is ExitCode.SOURCE


def test_a_payload_of_another_type_is_refused() -> None:
    with pytest.raises(RelforgeError, match="cannot be read"):
        dsse.verify(dsse.sign("other", b"p", EC), [signer(EC)], payload_type=TYPE)


def test_only_p256_signs() -> None:
    with pytest.raises(RelforgeError, match="P-256"):
        dsse.sign(TYPE, b"p", ec.generate_private_key(ec.SECP384R1()))


def _with(change: Callable[[dict[str, object]], object]) -> bytes:
    value = json.loads(dsse.sign(TYPE, b"payload!", EC).to_json())
    change(value)
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{" * 100_000,
        b"\xff\xfe",
        _with(lambda v: v.pop("payloadType")),
        _with(lambda v: v.update(extra=1)),
        _with(lambda v: v.update(signatures={})),
        _with(lambda v: v.update(signatures=[{"sig": ""}])),
        _with(lambda v: v.update(signatures=["x"])),
        _with(lambda v: v.update(payload="cGF5bG9hZCE")),
        _with(lambda v: v.update(payload="cGF5bG9hZCF=")),
        _with(lambda v: v.update(payload="cGF5 bG9hZCE=")),
        _with(lambda v: v.update(payload="ü")),
        _with(lambda v: v.update(payload=7)),
        b'{"payload":"","payload":"","payloadType":"","signatures":[]}',
    ],
)
def test_anything_but_the_canonical_form_is_refused(raw: bytes) -> None:
    with pytest.raises(RelforgeError) as caught:
        dsse.parse(raw, where="x.bundle")
    assert caught.value.code is ExitCode.SOURCE
    assert caught.value.where == "x.bundle"


@examples(150)
@given(st.data())
def test_no_changed_bit_passes(data: st.DataObject) -> None:
    raw = bytearray(dsse.sign(TYPE, b'{"a": 1}', ED).to_json())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RelforgeError):
        dsse.verify(dsse.parse(bytes(raw)), [signer(ED)], payload_type=TYPE)
