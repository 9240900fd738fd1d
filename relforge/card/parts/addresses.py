"""Contacts as Markdown."""

from __future__ import annotations


def mail(text: str) -> str:
    """An address that a reader can click, where the contact is one; other contacts as they are."""
    return f"<{text}>" if "@" in text and " " not in text else text
