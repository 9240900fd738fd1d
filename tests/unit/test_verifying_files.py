"""Files of a release that lies in a registry, read as a network gives them."""

from __future__ import annotations

import io

import pytest

from relforge.frozen import sha256_hex
from relforge.verifying.files import LayerFiles

DATA = bytes(range(256)) * 40


class InPieces(io.RawIOBase):
    """A few bytes at each read, as an answer of a server comes."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._data[self._at : self._at + min(len(buffer), 100)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def files(data: bytes) -> LayerFiles:
    entry = (f"sha256:{sha256_hex(DATA)}", len(DATA))
    return LayerFiles({"release.json": entry}, lambda _name: InPieces(data))  # type: ignore[arg-type,return-value]


def test_a_file_that_comes_in_pieces_is_read_whole() -> None:
    assert files(DATA).read("release.json") == DATA


def test_another_content_is_refused() -> None:
    with pytest.raises(ValueError, match="not what its digest says"):
        files(DATA[:-1] + b"x").read("release.json")
