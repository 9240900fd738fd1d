"""A release with another setting: what ``--with serve.args.max-num-seqs=16`` asks for."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from pydantic import ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.release import Release

_MAPPINGS = ("args", "env")
"""Fields of ``serve`` whose keys are the engine's own, and may have dots."""


def changed(release: Release, words: Sequence[str]) -> Release:
    """The release with every ``serve.FIELD=VALUE`` of *words* in it; values are YAML.

    Only how it is served can be changed, since anything else asks for another image. Raises
    RelforgeError (USAGE) for what the manifest could not say either.
    """
    data = release.model_dump(mode="json")
    for word in words:
        path, equals, text = word.partition("=")
        head, _, field = path.partition(".")
        if not equals or head != "serve" or not field:
            raise _refused(word, "it is not serve.FIELD=VALUE", "serve.args.max-num-seqs=16")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise _refused(word, f"its value is no YAML: {error}", "quote the value") from error
        name, _, key = field.partition(".")
        if name in _MAPPINGS and key:
            # Of env every value is text, as a shell has it.
            data["serve"][name][key] = text if name == "env" else value
        elif key or name not in data["serve"]:
            raise _refused(word, f"serve has no field {field}", "relforge schema release")
        else:
            data["serve"][name] = value
    try:
        made = Release.model_validate(data)
    except ValidationError as error:
        raise _refused(", ".join(words), error.errors()[0]["msg"], "correct it") from error
    if made == release:
        raise _refused(", ".join(words), f"{release.name} has it already", "change something")
    return made


def _refused(word: str, why: str, hint: str) -> RelforgeError:
    return RelforgeError(f"--with {word} cannot be done", code=ExitCode.USAGE, why=why, hint=hint)
