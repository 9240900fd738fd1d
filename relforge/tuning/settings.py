"""A release with operators disabled, in the way its manifest says; and its list of operators."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.release import Release
from relforge.manifest.tuning import Tuning

_OPERATOR = re.compile(r"^[A-Za-z_][\w.]*$")


def tuning_of(release: Release) -> Tuning:
    """The section that says how. Raises RelforgeError (USAGE) where the release has none."""
    if release.tuning is None:
        raise RelforgeError(
            f"{release.name} does not say how operators are disabled",
            code=ExitCode.USAGE,
            where=f"release {release.name}, tuning",
            why="without it no other set of operators can be tried",
            hint="add it to the manifest (docs/tuning.md); for vllm-plugin-FL: "
            "tuning: {variable: VLLM_FL_FLAGOS_BLACKLIST, source: ...}",
        )
    return release.tuning


def already_disabled(release: Release) -> tuple[str, ...]:
    """What ``serve`` disables, in its order."""
    tuning = tuning_of(release)
    if tuning.variable is not None:
        text = release.serve.env.get(tuning.variable, "")
    else:
        text = str(release.serve.args.get(tuning.argument or "", ""))
    return tuple(filter(None, (word.strip() for word in text.split(tuning.separator))))


def place_of(release: Release) -> str:
    """Where in the manifest the list of disabled operators stands."""
    tuning = tuning_of(release)
    if tuning.variable is not None:
        return f"serve.env.{tuning.variable}"
    return f"serve.args.{tuning.argument}"


def with_disabled(release: Release, disabled: Iterable[str]) -> Release:
    """The release as it is served with just these operators disabled.

    Where there are none the list is not set at all.
    """
    tuning = tuning_of(release)
    value = tuning.separator.join(dict.fromkeys(disabled))
    env, args = dict(release.serve.env), dict(release.serve.args)
    if tuning.variable is not None:
        env.pop(tuning.variable, None)
        if value:
            env[tuning.variable] = value
    elif tuning.argument is not None:
        args.pop(tuning.argument, None)
        if value:
            args[tuning.argument] = value
    serve = release.serve.model_copy(update={"env": env, "args": args})
    return release.model_copy(update={"serve": serve})


def read_operators(path: Path) -> tuple[str, ...]:
    """The names in a file, one a line; ``#`` begins a comment.

    Raises RelforgeError (USAGE) for a file that is none.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _no_operators(str(path), why or "it cannot be read") from error
    names = []
    for number, line in enumerate(lines, 1):
        name = line.partition("#")[0].strip()
        if name and not _OPERATOR.match(name):
            raise _no_operators(f"{path}:{number}", f"{name!r} is no name of an operator")
        if name:
            names.append(name)
    return candidates(names, (), str(path))


def printed_operators(log: str, where: str) -> tuple[str, ...]:
    """The names among lines that a program printed; what else libraries print is passed over."""
    lines = (line.strip() for line in log.splitlines())
    return candidates([line for line in lines if _OPERATOR.match(line)], (), where)


def candidates(names: Sequence[str], disabled: Sequence[str], where: str) -> tuple[str, ...]:
    """The operators that could be disabled and are not yet, each once, sorted.

    Raises RelforgeError (USAGE) for none.
    """
    found = tuple(sorted(set(names) - set(disabled)))
    if not found:
        raise _no_operators(where, "it names no operator that is not disabled already")
    return found


def _no_operators(where: str, why: str) -> RelforgeError:
    return RelforgeError(
        "there is no list of operators",
        code=ExitCode.USAGE,
        where=where,
        why=why,
        hint="name them in tuning.operators of the release, or in a file, one a line: --operators",
    )
