"""Sources and images on one line, as commands and pages write them."""

from __future__ import annotations

import re

from pydantic import TypeAdapter, ValidationError

from relforge.manifest.facts import UNRESOLVED
from relforge.manifest.source import SourceSpec
from relforge.starting.texts import NewSource

FORMS = "URL@COMMIT, NAME==VERSION#sha256=HASH, or wheel:NAME==VERSION#sha256=HASH"
_GIT = re.compile(r"(?P<url>[a-z]+://\S+)@(?P<commit>[0-9a-f]+)")
_INDEX = re.compile(
    r"(?P<wheel>wheel:)?(?P<package>[^=\s]+)==(?P<version>[^#\s]+)#sha256=(?P<sha256>[0-9a-f]+)"
)
_IMAGE = re.compile(
    r"(?P<reference>[A-Za-z0-9][\w./:-]*[A-Za-z0-9])(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_Spec: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec)


def read_source(text: str) -> NewSource:
    """The source that *text* names. Raises ValueError."""
    if (git := _GIT.fullmatch(text)) is not None:
        path = git["url"].rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")
        name = re.sub(r"[^A-Za-z0-9._-]", "-", path).lstrip("._-") or "source"
        found = {"kind": "git", **git.groupdict()}
    elif (index := _INDEX.fullmatch(text)) is not None:
        name = index["package"]
        found = {"kind": "wheel" if index["wheel"] else "archive", **index.groupdict()}
        del found["wheel"]
    else:
        raise ValueError(f"write it as {FORMS}")
    try:
        spec = _Spec.validate_python(found)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ValueError(f"{fault['loc'][-1]}: {fault['msg']}") from None
    return NewSource(name=name, distribution=name, spec=spec)


def read_image(text: str) -> tuple[str, str]:
    """Reference and digest of an image, ``unresolved`` where none stands. Raises ValueError."""
    found = _IMAGE.fullmatch(text)
    if found is None or "/" not in found["reference"]:
        raise ValueError("write it with its registry: HOST/NAME:TAG, or HOST/NAME@sha256:DIGEST")
    return found["reference"], found["digest"] or UNRESOLVED
