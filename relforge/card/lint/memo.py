"""What several rules ask of one document, found out once."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from relforge.card.lint.document import Document

T = TypeVar("T")


def once(function: Callable[[Document], T]) -> Callable[[Document], T]:
    """Keeps what a function says of a document as long as the document lives.

    A rule goes through all documents before the next rule does, so a cache of the last few calls
    would never be asked for what it holds.
    """
    known: WeakKeyDictionary[Document, T] = WeakKeyDictionary()

    @wraps(function)
    def asked(document: Document) -> T:
        try:
            return known[document]
        except KeyError:
            found = known[document] = function(document)
            return found

    return asked
