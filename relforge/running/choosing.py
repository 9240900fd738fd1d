"""The executor that a run was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.executor.local import Executor, LocalExecutor
from relforge.manifest.site import Site
from relforge.manifest.site_file import home_folder


@contextmanager
def executor_of(
    name: str,
    site: Site,
    cancel: CancelToken,  # noqa: ARG001 (each job has its own)
) -> Iterator[Executor]:
    """Raises RelforgeError: USAGE for an unknown one, ENVIRONMENT where a cluster is not there."""
    if name == "local":
        yield LocalExecutor()
    elif name == "ray":
        from relforge.executor.ray_executor import ray_executor

        with ray_executor(site, home_folder(site)) as executor:
            yield executor
    else:
        raise RelforgeError(
            f"unknown executor {name!r}", code=ExitCode.USAGE, why="known are: local, ray"
        )
