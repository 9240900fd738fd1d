"""Whatever bytes a stranger hands over, the answer is an error for people, and never another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.parsers import TARGETS, seeds

QUICK = [name for name in TARGETS if name != "keys"]


@pytest.mark.parametrize("name", TARGETS)
def test_the_inputs_to_start_from_are_understood(name: str) -> None:
    assert seeds(name)
    for seed in seeds(name):
        TARGETS[name](seed)


@pytest.mark.parametrize("name", QUICK)
@examples(30)
@given(data=st.binary(max_size=2000))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", QUICK)
@examples(60)
@given(data=st.data())
def test_valid_inputs_with_a_few_changes(name: str, data: st.DataObject) -> None:
    TARGETS[name](changed(data, data.draw(st.sampled_from(seeds(name)))))


@examples(25)
@given(data=st.data())
def test_keys_with_a_few_changes(data: st.DataObject) -> None:
    TARGETS["keys"](changed(data, data.draw(st.sampled_from(seeds("keys")))))


def changed(data: st.DataObject, seed: bytes) -> bytes:
    """Some bytes replaced, removed, put in or doubled."""
    raw = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        end = min(len(raw), at + data.draw(st.integers(0, 40)))
        match data.draw(st.sampled_from(["flip", "cut", "put", "double"])):
            case "flip" if at < len(raw):
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del raw[at:end]
            case "put":
                raw[at:at] = data.draw(st.binary(max_size=20))
            case _:
                raw[at:at] = raw[at:end]
    return bytes(raw)
