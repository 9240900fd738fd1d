"""The shell blocks of the workflows, in the words that every POSIX shell knows.

Whatever comes from outside, names of releases among it, comes as a variable, so that no text of it
is read as a command.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from relforge.manifest.ci import CiSecret, CiSite

FOLDER = "relforge-ci"
"""In the project's folder: reports, what one job hands to the next, and the environment."""
MATRIX = f"{FOLDER}/matrix.json"
PUBLISHED = f"{FOLDER}/published.json"


def install(requirements: Sequence[str]) -> str | None:
    """Makes an environment with relforge in it; its programs lie in ``relforge-ci/venv/bin``."""
    if not requirements:
        return None
    wanted = " ".join(shlex.quote(one) for one in requirements)
    return _lines(
        f"python3 -m venv {FOLDER}/venv",
        f"{FOLDER}/venv/bin/python -m pip install --quiet --disable-pip-version-check {wanted}",
    )


def check() -> str:
    return _lines(f"relforge check --junit {FOLDER}/check.xml")


def matrix(is_tag: str, base: str) -> str:
    """Writes the matrix; ``is_tag`` is a test, ``base`` a variable with the commit before."""
    return _lines(
        f"mkdir -p {FOLDER}",
        f"if {is_tag}; then",
        "  set -- --all",
        f'elif since=$(git merge-base "{base}" HEAD 2> /dev/null); then',
        '  set -- --changed-since "$since"',
        "else",
        '  echo "there is no commit to compare with: everything counts as changed"',
        "  set -- --all",
        "fi",
        f'relforge plan "$@" --matrix > {MATRIX}',
    )


def build() -> str:
    """``RELEASES`` are names with blanks between them, ``VERB`` is build or smoke."""
    return _lines(*_NAMED, f'relforge "$VERB" "$@" --junit "$PWD/{FOLDER}/build.xml"')


def publish(ci: CiSite, place: str) -> str:
    """Sends candidates. ``place`` is a folder outside of the work space, where published releases
    stay until they are promoted."""
    return _lines(
        *_NAMED,
        *_elsewhere(place),
        f'relforge publish "$@" --project "$project"{_targets(ci)} --json \\',
        f'  --junit "$project/{FOLDER}/publish.xml" > "$project/{PUBLISHED}"',
    )


def promote(ci: CiSite, place: str) -> str:
    """Promotes what ``publish`` handed over, and nothing else."""
    return _lines(
        *_elsewhere(place),
        f'relforge promote --published "$project/{PUBLISHED}" --project "$project"'
        f"{_targets(ci)} \\",
        f'  --junit "$project/{FOLDER}/promote.xml"',
    )


def secrets_to_files(secrets: Sequence[CiSecret], folder: str) -> str:
    """Writes secrets that come as variables, or as names of files, to files of their own.

    ``printf`` is the shell's own: no secret is ever an argument of a program.
    """
    rows = ["umask 077"]
    for one in secrets:
        file = shlex.quote(f"{folder}{one.file}")
        rows += [
            f': "${{{one.name}:?is not among the secrets of this CI}}"',
            f'mkdir -p "$(dirname {file})"',
            f'if [ -f "${one.name}" ]; then cat "${one.name}" > {file}',
            f"else printf '%s\\n' \"${one.name}\" > {file}; fi",
        ]
    return _lines(*rows)


def remove_secrets(secrets: Sequence[CiSecret], folder: str) -> str:
    files = " ".join(shlex.quote(f"{folder}{one.file}") for one in secrets)
    return _lines(f"rm -f {files}")


_NAMED = (
    "set --",
    'for name in $RELEASES; do set -- "$@" --release "$name"; done',
)


def _elsewhere(place: str) -> tuple[str, ...]:
    return (
        "project=$PWD",
        f'mkdir -p "{place}" "$project/{FOLDER}"',
        f'cd "{place}" || exit 1',
    )


def _targets(ci: CiSite) -> str:
    return "".join(f" --target {one}" for one in ci.targets)


def _lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)
