"""Logs as they come: wrapped, coloured, damaged, huge; and what of them is shown."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator

import pytest

from relforge import redact
from relforge.serving.diagnosis import Reading
from relforge.serving.report import Cause

SAID = "ValueError: No available memory for the cache blocks. Try increasing `x`"


def read(raw: bytes) -> tuple[Cause, ...]:
    reading = Reading()
    reading.read(io.BytesIO(raw))
    return reading.causes


def only(raw: bytes) -> Cause:
    (cause,) = read(raw)
    return cause


@pytest.mark.parametrize(
    ("line", "evidence"),
    [
        (f"\x1b[31mERROR\x1b[0m 1-2 x.py:1] \x1b[1;33m{SAID}\x1b[0m", f"ERROR 1-2 x.py:1] {SAID}"),
        (
            json.dumps({"log": f"{SAID}\n", "stream": "stderr", "time": "2026-01-02T03:04:05Z"}),
            SAID,
        ),
        (f"2026-01-02T03:04:05.123456789Z stderr F {SAID}", SAID),
        (f"2026-01-02T03:04:05.123456789Z {SAID}", SAID),
        (f"vllm-1  | {SAID}", SAID),
        (f"(RayWorkerWrapper pid=2, ip=10.0.0.1) {SAID}", None),
        (f"Loading:  10%|#         | 1/9\rLoading: 100%|##########| 9/9\r{SAID}\r", SAID),
        (f"{SAID}\r", SAID),
    ],
)
def test_however_a_line_is_wrapped(line: str, evidence: str | None) -> None:
    cause = only(f"INFO one\n{line}\nINFO three".encode())
    assert cause.id == "no-kv-cache"
    assert cause.line == 2
    assert cause.evidence == (evidence or line)


def test_bytes_that_are_no_text(tmp_path: object) -> None:
    junk = bytes(range(256)) * 40
    raw = junk + b"\n\xff\xfe\x00broken \xc3\x28\n" + SAID.encode() + b" \xff\x00\n" + junk
    cause = only(raw)
    # Each round of the junk has one line feed.
    assert cause.line == 40 + 2 + 1
    assert "\x00" not in cause.evidence
    assert cause.evidence.startswith(SAID)


def test_the_number_of_a_line_far_down() -> None:
    raw = b"INFO a line like many others, with nothing in it\n" * 100_000
    assert only(raw + SAID.encode()).line == 100_001


@pytest.mark.parametrize("where", [0, 3_333_333, 9_999_000])
def test_a_line_of_ten_megabytes_hides_nothing(where: int) -> None:
    raw = bytearray(b"x" * 10_000_000)
    raw[where : where + len(SAID)] = SAID.encode()
    cause = only(b"INFO one\n" + bytes(raw) + b"\nINFO three\n")
    assert cause.line == 2
    assert SAID[:40] in cause.evidence
    assert len(cause.evidence) < 500


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [b"error a", b"token=error ", b"error: argument --x ", b"Permission denied: '/dev ", b"x: {",
     b"Head size 1 is not supported by ", b"/dev/shm shared memory ", b"http://a:b"],
)  # fmt: skip
def test_no_line_makes_it_hang(unit: bytes) -> None:
    """Ten megabytes in which a pattern begins again and again; what is found does not matter."""
    assert len(read(unit * (10_000_000 // len(unit)))) <= 1


class Endless(io.RawIOBase):
    """A log of some size that is made while it is read."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        line = b'(APIServer pid=1) INFO:     127.0.0.1:1 - "POST /v1/completions" 200 OK\n'
        count = min(len(view), self.left)
        view[:count] = (line * (count // len(line) + 1))[:count]
        self.left -= count
        return count


def test_memory_does_not_grow_with_the_log() -> None:
    def peak(size: int) -> int:
        tracemalloc.start()
        try:
            reading = Reading()
            reading.read(io.BufferedReader(Endless(size)))
            assert reading.causes == ()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(40_000_000) < peak(10_000_000) * 1.2


@pytest.fixture
def registered() -> Iterator[str]:
    secret = "correct-horse-battery"
    redact.register(secret)
    yield secret
    redact._secrets.discard(secret)


def test_what_is_secret_is_not_shown(registered: str) -> None:
    secrets = [
        "hf_AbCdEfGhIjKlMnOpQrStUv",
        "sk-proj1234567890abcdef",
        "token=abcdef1234567890",
        "Authorization: Bearer abcdef.1234567890",
        "'api_key': ['s3cr3tvalue99']",
        "https://user:passw0rd@hub.example/x",
        registered,
    ]
    cause = only(f"{' '.join(secrets)} {SAID}".encode())
    for hidden in ("hf_Ab", "proj1234", "abcdef", "s3cr3t", "passw0rd", registered):
        assert hidden not in cause.evidence
    assert cause.evidence.endswith(SAID)


def test_a_secret_among_the_last_words_is_not_shown() -> None:
    reading = Reading()
    reading.read(io.BytesIO(b"hm\nKeyError: 'hf_AbCdEfGhIjKlMnOpQrStUv'\n"))
    assert reading.last_words == "KeyError: '[redacted]'"
