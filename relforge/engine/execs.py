"""What a further command in a container writes, as the engine's API sends it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import APIClient

_HEAD = struct.Struct(">BxxxL")
"""Before each piece: 1 for stdout or 2 for stderr, and its length in bytes."""


def output_of(api: APIClient, exec_id: str) -> tuple[bytes, bytes]:
    """Starts what ``exec_create`` made, and reads its stdout and stderr to their end.

    The SDK's own ``exec_start`` reads from the bare socket, past what came along with the head of
    the answer and lies in a buffer already: on a busy host the beginning is lost, or all of it.
    Raises docker.errors.APIError, what requests raises, and OSError, as where the answer ends in
    the middle.
    """
    from docker.errors import create_api_error_from_http_exception
    from requests import HTTPError

    url = f"{api.base_url}/v{api.api_version}/exec/{exec_id}/start"
    how = {"Detach": False, "Tty": False}
    found = {1: bytearray(), 2: bytearray()}
    # A command may be silent for as long as it likes.
    with api.post(url, json=how, stream=True, timeout=None) as answer:
        try:
            answer.raise_for_status()
        except HTTPError as error:
            create_api_error_from_http_exception(error)
        while head := _read(answer.raw, _HEAD.size):
            stream, size = _HEAD.unpack(head)
            found.setdefault(stream, bytearray()).extend(_read(answer.raw, size))
    return bytes(found[1]), bytes(found[2])


def _read(raw: Any, size: int) -> bytes:
    """So many bytes, or none at the end."""
    found = b""
    while len(found) < size:
        piece = raw.read(size - len(found))
        if not piece:
            if found:
                raise ConnectionError(
                    f"the engine's answer ended after {len(found)} of {size} bytes"
                )
            break
        found += piece
    return found
