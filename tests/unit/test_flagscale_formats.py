"""FlagScale's files as such: sealed ones, their YAML, its names and its way of giving options."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from relforge.cli.spread import spread
from relforge.errors import ExitCode, RelforgeError
from relforge.patching.flagscale import sealed
from relforge.patching.flagscale.diff_yaml import read_diff_yaml, write_diff_yaml
from relforge.patching.flagscale.history import (
    commits_of,
    read_history,
    with_commit,
    write_history,
)
from relforge.patching.flagscale.legacy import hetero_line, read_hetero
from relforge.patching.flagscale.names import backends, check_new_device, matching
from tests.support.flagscale import rsa4096, seal
from tests.support.patching import rsa_key

KEY = Path("private_key.pem")


def unseal(data: bytes, key: rsa.RSAPrivateKey | None = None, step: int = 1000) -> bytes:
    head, body = sealed.split_head(data[i : i + step] for i in range(0, len(data), step))
    secret = sealed.unwrap(head, [(KEY, key or rsa4096())], where="x")
    return b"".join(sealed.open_chunks(head, body, secret, where="x"))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 5000])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_sealed_file_opens_again_in_chunks_of_any_size(size: int, step: int) -> None:
    if step == 1 and size > 100:
        step = 3
    plain = b"p" * size
    data = seal(plain)
    assert len(data) == 528 + (size // 16 + 1) * 16
    assert unseal(data, step=step) == plain


def test_a_sealed_file_cut_anywhere_is_refused() -> None:
    data = seal(b"patch text\n" * 30)
    for end in {0, 1, 15, 16, 300, 527, 528, *range(529, len(data), 13)}:
        if (end - 528) % 16 == 0 and end > 528:
            continue  # a cut between blocks leaves random padding: see the next test
        with pytest.raises(RelforgeError) as failed:
            unseal(data[:end])
        assert failed.value.code is ExitCode.SOURCE


def test_padding_is_checked_to_the_last_byte() -> None:
    data = bytearray(seal(b"x" * 20))  # twelve bytes of padding in the last block
    data[-17] ^= 0x01  # flips the last padding byte through the block before
    with pytest.raises(RelforgeError, match="damaged"):
        unseal(bytes(data))
    data[-17] ^= 0x01
    data[-20] ^= 0x10  # an inner one
    with pytest.raises(RelforgeError, match="damaged"):
        unseal(bytes(data))


@settings(max_examples=25)
@given(st.integers(min_value=128, max_value=4223))
def test_a_flipped_bit_in_the_wrapped_key_is_refused_and_names_the_key(bit: int) -> None:
    data = bytearray(seal(b"content"))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RelforgeError, match="cannot be opened") as failed:
        unseal(bytes(data))
    assert str(KEY) in (failed.value.why or "")


def test_a_key_of_another_size_is_told_apart() -> None:
    with pytest.raises(RelforgeError) as failed:
        unseal(seal(b"content"), rsa_key())
    assert "4096" in (failed.value.why or "")
    with pytest.raises(RelforgeError, match="cannot seal"):
        list(sealed.seal([b""], rsa_key().public_key()))


def test_diff_yaml_is_read_as_people_write_it() -> None:
    read = read_diff_yaml(
        b"backends_commit:\n  vllm: 'abc '\nbackends_version:\n  FlagScale: 0.8\ncommit: "
        + b"1" * 40
        + b"\ncontact: ''\ndevice_type: BI_V150\nmodels: qwen3 \ntask: [train]\nextra: 1\n",
        "x",
    )
    assert read.commit == "1" * 40
    assert read.backends_version == {"FlagScale": "0.8"}
    assert read.backends_commit == {"vllm": "abc"}
    assert (read.models, read.task) == (("qwen3",), ("train",))
    assert read_diff_yaml(write_diff_yaml(read), "x") == read


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_whatever_stands_in_a_yaml_file_is_read_or_refused(data: bytes) -> None:
    for read in (read_diff_yaml, read_history):
        with contextlib.suppress(RelforgeError):  # any other exception is a fault
            read(data, "x")


def test_a_description_without_a_base_is_refused() -> None:
    with pytest.raises(RelforgeError, match="description") as failed:
        read_diff_yaml(b"device_type: BI_V150\ntask: [train]\n", "x")
    assert "commit" in (failed.value.why or "")


def test_the_last_commit_of_the_history_counts_whatever_the_spelling() -> None:
    history = read_history(b"BI_V150:\n  train:\n    FlagScale+vllm: [a1, b2]\n    vllm: []\n", "x")
    assert commits_of(history, "bi-v150", ["inference", "train"], ["vllm", "FlagScale"]) == (
        "a1",
        "b2",
    )
    assert commits_of(history, "bi-v150", ["train"], ["vllm"]) == ()
    more = with_commit(history, "BI_V150", ["train"], ["vllm", "FlagScale"], "c3")
    assert with_commit(more, "BI_V150", ["train"], ["vllm", "FlagScale"], "c3") == more
    assert read_history(write_history(more), "x")["BI_V150"]["train"] == {
        "FlagScale+vllm": ["a1", "b2", "c3"],
        "vllm": ["c3"],
        "FlagScale": ["c3"],
    }


def test_a_line_for_several_devices_is_written_as_flagscale_writes_it() -> None:
    assert hetero_line("01234567", ["A_X100", "B_Y1"]) == b"01234567:  A_X100 B_Y1\n"
    assert read_hetero(b"# x\n01234567:  A_X100 B_Y1\n") == [("01234567", ("A_X100", "B_Y1"))]


def test_names_compare_as_relforge_compares_devices() -> None:
    assert matching("BI-V150", ["bi_V150", "other"], where="x") == "bi_V150"
    assert matching("BI_V150", ["bi_V150", "BI_V150"], where="x") == "BI_V150"
    assert matching("none", ["bi_V150"], where="x") is None
    with pytest.raises(RelforgeError, match="more than one") as failed:
        matching("BI-V150", ["bi_V150", "BI_V150"], where="x")
    assert "BI_V150 and bi_V150" in (failed.value.why or "")
    assert backends(["fs", "VLLM", "megatron"]) == ("FlagScale", "vllm", "Megatron-LM")
    with pytest.raises(RelforgeError, match="no backend"):
        backends(["torch"])


def test_new_devices_are_named_as_flagscales_tools_allow() -> None:
    check_new_device("bi_V150", legacy=True)
    check_new_device("BI_V150", legacy=False)
    for name, legacy in (("bi-V150", True), ("bi_V150", False), ("A_B_C", False), ("../x_y", True)):
        with pytest.raises(RelforgeError) as failed:
            check_new_device(name, legacy=legacy)
        assert failed.value.code is ExitCode.USAGE


def test_several_values_may_follow_one_flag() -> None:
    flags = {"--backend", "--task"}
    words = ["--backend", "vllm", "FlagScale", "--task=train", "--dir", "d", "--task", "a", "b"]
    assert spread(words, flags) == [
        *("--backend", "vllm", "--backend", "FlagScale", "--task=train"),
        *("--dir", "d", "--task", "a", "--task", "b"),
    ]
    assert spread(["seal", "x", "--", "--task", "a", "b"], flags)[-2:] == ["a", "b"]


def test_a_history_of_aliases_within_aliases_is_refused_before_it_is_written_out() -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    bomb = f"l0: &l0 [x, x]\n{levels}D_X: {{train: {{vllm: [*l11]}}}}\n".encode()
    with pytest.raises(RelforgeError) as caught:
        read_history(bomb, "history")
    assert caught.value.code is ExitCode.SOURCE


def test_a_commit_of_digits_stays_what_it_is() -> None:
    data = b"Other_X1:\n  train:\n    FlagScale: [0123, 1e10]\n    vllm:\n"
    history = read_history(data, "x")
    assert history == {"Other_X1": {"train": {"FlagScale": ["0123", "1e10"], "vllm": []}}}
    assert read_history(write_history(history), "x") == history
