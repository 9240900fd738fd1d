"""From publishing to promoting, where these are two jobs: which folders, with which images."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.publishing.outputs import SentOutput, SentReleasesOutput

_PRINTED: TypeAdapter[SentReleasesOutput | SentOutput] = TypeAdapter(
    SentReleasesOutput | SentOutput
)


def read_handed(file: Path) -> dict[Path, str]:
    """The folders and their images' digests that ``relforge publish --json`` printed.

    Of several releases those that were not published are left out. Raises RelforgeError: USAGE for
    a file that holds something else, PUBLISH where nothing was published.
    """
    try:
        found = _PRINTED.validate_json(file.read_bytes())
    except OSError as error:
        raise _unfit(file, error.strerror) from error
    except ValidationError as error:
        raise _unfit(file, error.errors()[0]["msg"]) from error
    releases = (found,) if isinstance(found, SentOutput) else found.releases
    handed = {
        Path(one.dist): one.image_digest
        for one in releases
        if one.dist is not None and one.image_digest is not None
    }
    if not handed:
        names = ", ".join(one.release for one in releases) or "no release"
        raise RelforgeError(
            "nothing was published that could be promoted",
            code=ExitCode.PUBLISH,
            where=str(file),
            why=f"{names}: the job that was to publish did not come to its end",
            hint="look at that job, and run it again",
        )
    return handed


def another_image(folder: Path, wanted: str, found: str) -> RelforgeError:
    """The error for a folder that something else was published to since."""
    return RelforgeError(
        f"{folder.name} is another image than the one that was published",
        code=ExitCode.PUBLISH,
        where=str(folder),
        why=f"{wanted} was to be promoted, {found} is there: it was published since, or on "
        "another host",
        hint="publish it again, and promote that",
    )


def _unfit(file: Path, why: str | None) -> RelforgeError:
    return RelforgeError(
        f"{file.name} is not what relforge publish --json prints",
        code=ExitCode.USAGE,
        where=str(file),
        why=why,
        hint=f"relforge publish ... --json > {file}",
    )
