"""No patch that relforge writes or seals publishes a private key."""

from __future__ import annotations

from collections.abc import Collection

from relforge.errors import ExitCode, RelforgeError
from relforge.gitio import Git
from relforge.patching.keys import keyfiles

LARGEST_KEY_BYTES = 1 << 16


def looks_private(content: bytes) -> bool:
    """Whether a file's content is a private key, of whatever use."""
    start = content[:LARGEST_KEY_BYTES].lstrip()
    may_be = start.startswith(b"-----BEGIN ") or b"AGE-SECRET-KEY-1" in start
    return may_be and keyfiles.is_private(start)


def refuse_private_keys(git: Git, tree: str, blobs: Collection[str | None]) -> None:
    """Raises RelforgeError (SOURCE) when one of these blobs of the tree is a private key.

    Files larger than any key are not read.
    """
    there = [
        entry
        for entry in git.list_tree(tree)
        if entry.oid in blobs
        and entry.size_bytes is not None
        and entry.size_bytes <= LARGEST_KEY_BYTES
    ]
    for entry, content in git.blobs(there):
        if looks_private(content):
            raise would_publish(entry.path)


def would_publish(path: str) -> RelforgeError:
    """The error for a private key among the files of a patch."""
    return RelforgeError(
        "the patch would publish a private key",
        code=ExitCode.SOURCE,
        where=path,
        hint="take the file out of the change, then run the same command again",
    )
