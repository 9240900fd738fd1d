"""Git plumbing that sources and patching share: byte-exact, neutral to the user's configuration."""

from relforge.gitio.entries import FileMode, TreeEntry, TreeFile
from relforge.gitio.git import TIMEOUT_S, Git, init_store, neutral_attributes
from relforge.gitio.writing import WrittenTree

__all__ = [
    "TIMEOUT_S",
    "FileMode",
    "Git",
    "TreeEntry",
    "TreeFile",
    "WrittenTree",
    "init_store",
    "neutral_attributes",
]
