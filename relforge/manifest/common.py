"""Field types that several manifests share."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from relforge.addresses import DOCKER_LOGINS, plain_address

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNFIT_IN_PATHS = re.compile(r"[\x00-\x1f,]")

UNKNOWN: Final = "unknown"
"""A fact that nobody is known to say."""


def _stays_inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must be a relative path that stays inside its folder")
    if _UNFIT_IN_PATHS.search(path):
        # Paths end in mount options and Dockerfile lines, where these mean something else.
        raise ValueError("must hold neither a comma nor a control character")
    return path


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must be one line without control characters")
    return text


def _repository(text: str) -> str:
    from relforge.errors import RelforgeError
    from relforge.oci.reference import Repository

    try:
        Repository.parse(text)
    except RelforgeError as error:
        raise ValueError(error.why or error.what) from error
    return text


Line = Annotated[str, AfterValidator(_one_line)]
"""One line of text, without control characters."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
"""Text of any number of lines."""
Reason = Annotated[str, StringConstraints(min_length=3), AfterValidator(_one_line)]
"""One line of text that tells people why."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
"""A name that is also fit for files, containers and repositories."""
DeviceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+(_[A-Za-z0-9]+)*$")]
"""Letters and digits, with single underscores between them."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""64 hexadecimal digits in lower case."""
Architecture = Literal["amd64", "arm64", "riscv64"]
"""As Docker and OCI call it."""
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""Of a manifest in a registry or layout."""
ImageReference = Annotated[Line, AfterValidator(plain_address(DOCKER_LOGINS))]
"""As ``docker pull`` takes it, without login."""
RepositoryName = Annotated[ImageReference, AfterValidator(_repository)]
"""``HOST/NAME`` of a repository in a registry, without tag or digest."""
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
"""A git commit, in full."""
TreeHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
"""A git tree, in full."""
DebianPackage = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
"""The name of a Debian package."""
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""
RelativePath = Annotated[
    str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_stays_inside)
]
"""A path that stays inside its folder, mostly the project's."""
Port = Annotated[int, Field(ge=1, le=65535)]
"""Of TCP."""
PositiveInt = Annotated[int, Field(ge=1)]
"""A whole number from 1."""
Precision = Literal["float32", "float16", "bfloat16", "fp8", "int8", "int4", "w8a8", "w4a8"]
Seconds = Annotated[float, Field(gt=0)]
"""A duration."""
