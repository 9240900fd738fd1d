"""The executor that a run was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.executor.local import Executor, LocalExecutor
from relforge.manifest.site import Site


@contextmanager
def executor_of(
    name: str,
    site: Site,  # noqa: ARG001 (of executors on other hosts)
    cancel: CancelToken,  # noqa: ARG001
) -> Iterator[Executor]:
    """Raises RelforgeError (USAGE) for an unknown one."""
    if name != "local":
        raise RelforgeError(
            f"unknown executor {name!r}", code=ExitCode.USAGE, why="known are: local"
        )
    yield LocalExecutor()
