"""What git's last line says: refused access, or something else that has the number in it."""

from __future__ import annotations

import pytest

from relforge.sources.remote import refuses_access


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("fatal: unable to access 'https://h/x.git/': The requested URL returned error: 403", True),
        ("fatal: Authentication failed for 'https://h/x.git/'", True),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", True),
        ("git@h: Permission denied (publickey).", True),
        ("cannot lock ref 'refs/heads/main': is at 9a403f1c77 but expected 403beef", False),
        ("unable to access 'https://h/x.git/': The requested URL returned error: 503", False),
    ],
)  # fmt: skip
def test_who_is_refused(line: str, refused: bool) -> None:
    assert refuses_access(line) is refused
