"""An entry that was found, with everything that its tree takes but keys and wishes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relforge.patching.flagscale.entry import EntryPatches
from relforge.patching.flagscale.overlay import Laying, OverlaidPatches
from relforge.patching.source import Graft, PatchSource, Recipe, Trust, Whitespace


@dataclass(frozen=True)
class Found:
    """One device's patches with the base they are for. ``epoch`` is the base's commit time.

    ``device`` is empty for FlagScale's own extensions.
    """

    device: str
    patches: EntryPatches
    git_dir: Path
    base_commit: str
    base_tree: str
    epoch: int
    grafts: tuple[Graft, ...] = ()
    laying: Laying | None = None

    def recipe(
        self,
        trust: Trust,
        *,
        expected_tree: str | None = None,
        whitespace: Whitespace = "exact",
    ) -> Recipe:
        """How its tree is made."""
        patches: PatchSource = self.patches
        if self.laying is not None:
            patches = OverlaidPatches(
                self.patches,
                self.laying,
                git_dir=self.git_dir,
                base_tree=self.base_tree,
                grafts=self.grafts,
                whitespace=whitespace,
            )
        return Recipe(
            git_dir=self.git_dir,
            base_tree=self.base_tree,
            patches=patches,
            grafts=self.grafts,
            base_commit=self.base_commit,
            expected_tree=expected_tree,
            trust=trust,
            whitespace=whitespace,
        )
