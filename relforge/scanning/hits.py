"""What a scan says: hits, what was let through, what could not be read; never the secret itself."""

from __future__ import annotations

from typing import Literal

from relforge.frozen import Frozen

Kind = Literal[
    "secret", "private-key", "known-value", "credential-file", "sealed", "home-path", "host",
    "word", "leftover",
]  # fmt: skip


class Hit(Frozen):
    """One thing that must not be published, by its place.

    ``layer`` is the digest of the layer that holds it and ``step`` what made that layer; both are
    None for the image's configuration and for files beside the image. ``path`` is the file, with
    ``!`` before the name inside an archive; ``line`` counts from 1 and is None in binary files.
    ``rule`` names what was recognised, ``what`` says it in words.
    """

    kind: Kind
    rule: str
    what: str
    path: str
    layer: str | None = None
    step: str | None = None
    line: int | None = None

    def shown(self) -> str:
        """One line: place first."""
        line = f", line {self.line}" if self.line else ""
        layer = f" (layer {self.layer[:19]}, {self.step})" if self.layer else ""
        return f"{self.path}{line}: {self.what}{layer}"


class Let(Frozen):
    """What looks like a hit and was let through, with the reason. ``count`` is how often."""

    kind: Kind
    rule: str
    path: str
    reason: str
    count: int


class Unread(Frozen):
    """What could not be looked into."""

    path: str
    why: str


class Searched(Frozen):
    """What was found in one layer, or in one group of files. ``bytes`` are unpacked."""

    files: int
    bytes: int
    archives: int
    hits: tuple[Hit, ...]
    let: tuple[Let, ...]
    unread: tuple[Unread, ...]


class LayerReport(Frozen):
    """One layer: digest, the step that made it, and what was found in it."""

    digest: str
    step: str
    searched: Searched


class ContentReport(Frozen):
    """``content-scan.json`` (``relforge.content-scan/1``): the same for one content and policy.

    ``detectors`` are the programs that recognise things, by name and version; ``looked_for`` says
    how many values of this site were compared, by where they are configured, never which.
    """

    format: Literal["relforge.content-scan/1"] = "relforge.content-scan/1"
    image_digest: str
    verdict: Literal["pass", "fail"]
    detectors: dict[str, str]
    looked_for: dict[str, int]
    policy: dict[str, object]
    sealed: dict[str, str]
    """Sealed patch sets by name, with what they may ship."""
    layers: tuple[LayerReport, ...]
    config: Searched
    evidence: Searched

    @property
    def hits(self) -> tuple[Hit, ...]:
        """Of all parts."""
        parts = (*(layer.searched for layer in self.layers), self.config, self.evidence)
        return tuple(hit for part in parts for hit in part.hits)
