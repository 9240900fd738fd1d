"""Passphrases of private keys: from a file, or asked for on the terminal, once per key file.

A passphrase never stands in an argument list, a log or an error: it is registered for redaction
the moment it is known.
"""

from __future__ import annotations

import getpass
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from relforge import redact
from relforge.errors import ExitCode, RelforgeError

Passphrase = Callable[[Path], "str | None"]
"""Asks for the passphrase of a key file; ``None`` when there is nobody to ask."""

_LONGEST = 4096
_answers: dict[Path, str | None] = {}
_asking = threading.Lock()


class LockedKey(RelforgeError):
    """A private key is under a passphrase, and there is nobody to ask for it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            "the private key is protected by a passphrase",
            code=ExitCode.SOURCE,
            where=str(path),
            why="there is no terminal to ask on, and no --key-passphrase-file is given",
            hint="run the same command on a terminal, or add: --key-passphrase-file FILE",
        )
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return LockedKey, (self.path,)


def passphrase_from(file: Path | None) -> Passphrase:
    """Asks the first line of *file*, the same for every key; without one, the terminal.

    The terminal is asked once per key file and process. Raises RelforgeError (SOURCE) when the file
    cannot be read or is empty.
    """
    if file is not None:
        return lambda _key: _first_line(file)
    return _on_terminal


def given_passphrase(file: Path | None) -> Passphrase:
    """As ``passphrase_from``, but asks nobody: what the terminal said before counts."""
    return passphrase_from(file) if file is not None else _answers.get


def ask(path: Path, passphrase: Passphrase | None) -> str:
    """The passphrase of a key file. Raises LockedKey."""
    answer = passphrase(path) if passphrase else None
    if not answer:
        raise LockedKey(path)
    redact.register(answer)
    return answer


def wrong_passphrase(path: Path) -> RelforgeError:
    """The error for a passphrase that does not fit."""
    return RelforgeError(
        "the passphrase does not open the private key",
        code=ExitCode.SOURCE,
        where=str(path),
        hint="try again with the right passphrase",
    )


def readable_by_others(path: Path) -> int | None:
    """The mode of a file that other users of this machine can read or write, else ``None``."""
    try:
        info = path.stat()
    except OSError:
        return None
    mode = stat.S_IMODE(info.st_mode)
    return mode if stat.S_ISREG(info.st_mode) and mode & 0o077 else None


def _on_terminal(key: Path) -> str | None:
    # Stages ask from several threads at once, and an answer counts for all of them.
    with _asking:
        if key not in _answers:
            if not (sys.stdin and sys.stdin.isatty()):
                return None
            try:
                _answers[key] = getpass.getpass(f"passphrase of {key}: ", sys.stderr)
            except EOFError:
                return None
        return _answers[key]


def _first_line(file: Path) -> str:
    try:
        with file.open("rb") as handle:
            line = handle.readline(_LONGEST).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RelforgeError(
            "the passphrase file cannot be read",
            code=ExitCode.SOURCE,
            where=str(file),
            why=error.strerror if isinstance(error, OSError) else "it is not UTF-8 text",
            hint="check --key-passphrase-file",
        ) from error
    if not line:
        raise RelforgeError(
            "the passphrase file is empty",
            code=ExitCode.SOURCE,
            where=str(file),
            why="its first line is taken as the passphrase",
            hint="write the passphrase into its first line",
        )
    return line
