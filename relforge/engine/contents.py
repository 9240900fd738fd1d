"""What an image carries, read from files in it: its distribution and its Debian packages."""

from __future__ import annotations

import io
import shlex
import tarfile

from relforge import proc
from relforge.engine import rootfs
from relforge.engine.apt import System
from relforge.engine.cli import DockerCli
from relforge.errors import ExitCode
from relforge.frozen import Frozen


class Contents(Frozen):
    """``packages`` are (name, version) of dpkg's status; empty for an image without it. ``system``
    is None where ``/etc/os-release`` names no release."""

    system: System | None
    packages: tuple[tuple[str, str], ...]


def contents(image: str, cli: DockerCli) -> Contents:
    """Reads them without starting the image. Raises RelforgeError (ENVIRONMENT)."""
    # A command, for an image that has none; nothing runs.
    created = proc.run(
        cli.argv("create", image, "sh"), code=ExitCode.ENVIRONMENT, env=cli.environment
    ).text.strip()
    try:
        status = _file(created, "/var/lib/dpkg/status", cli)
        release = _file(created, "/etc/os-release", cli)
    finally:
        proc.run(cli.argv("rm", "--force", created), code=ExitCode.ENVIRONMENT, env=cli.environment)
    return Contents(system=_system(release), packages=rootfs.packages(status))


def _file(container: str, path: str, cli: DockerCli) -> str:
    """The text of a file, or nothing where there is none."""
    done = proc.run(
        cli.argv("cp", "--follow-link", f"{container}:{path}", "-"),
        code=ExitCode.ENVIRONMENT,
        env=cli.environment,
        check=False,
    )
    if done.returncode != 0:
        return ""
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        member = tar.next()
        content = tar.extractfile(member) if member else None
        return content.read().decode("utf-8", "replace") if content else ""


def _system(release: str) -> System | None:
    # Shell assignments: https://www.freedesktop.org/software/systemd/man/latest/os-release.html
    try:
        words = shlex.split(release, comments=True)
    except ValueError:
        return None
    values = dict(word.split("=", 1) for word in words if "=" in word)
    distribution, suite = values.get("ID"), values.get("VERSION_CODENAME")
    return System(distribution=distribution, suite=suite) if distribution and suite else None
