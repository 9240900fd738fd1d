"""What a serving engine is to relforge: something that turns a release into a server's argv."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Protocol

from relforge.manifest.release import Release


class ServingEngine(Protocol):
    """One kind of server."""

    @property
    def health_path(self) -> str:
        """Answers 200 when the server says it is ready."""

    def argv(self, release: Release, model_path: str) -> tuple[str, ...]:
        """The server's whole command inside the container, serving the folder *model_path*.

        Raises RelforgeError (USAGE) when the manifest sets an option that relforge sets itself.
        """


def options(args: Mapping[str, object]) -> Iterator[str]:
    """Options as argparse-style words, in the manifest's order.

    ``true`` is a bare flag, ``false`` its ``--no-`` form, lists and mappings are JSON.
    """
    for name, value in args.items():
        if value is True:
            yield f"--{name}"
        elif value is False:
            yield f"--no-{name}"
        else:
            yield f"--{name}"
            yield _word(value)


def _word(value: object) -> str:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    return str(value)
