"""Where a workflow lies, and what of the project's place in its repository it has to know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relforge.manifest.project import Project
from relforge.manifest.site import Site


@dataclass(frozen=True)
class Place:
    """``top`` is the repository's folder; ``inside`` the project's in it, empty for the top."""

    top: Path
    inside: str
    site_file: str | None
    """From the top; None where the site configuration lies elsewhere, or there is none."""

    @classmethod
    def of(cls, project: Project, site: Site) -> Place:
        root = project.root.resolve()
        top = next((one for one in (root, *root.parents) if (one / ".git").exists()), root)
        file = None if site.file is None else site.file.resolve()
        inside = root.relative_to(top).as_posix()
        return cls(
            top=top,
            inside="" if inside == "." else inside,
            site_file=file.relative_to(top).as_posix()
            if file is not None and file.is_relative_to(top)
            else None,
        )

    @property
    def before(self) -> str:
        """What stands before a path of the project in one of the repository."""
        return f"{self.inside}/" if self.inside else ""

    def secrets_folder(self) -> str:
        """The site configuration's folder as the project's own sees it, with its slash."""
        up = "../" * len(Path(self.inside).parts)
        folder = Path(self.site_file or "").parent.as_posix()
        return up + ("" if folder == "." else f"{folder}/")
