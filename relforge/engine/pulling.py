"""Pulls an image by digest, from its registry or from the mirror that the site names in its place.

The digest alone says what an image is: one that comes from a mirror is the same image. The engine
does the pulling, with its own logins, certificates and proxies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from relforge import proc
from relforge.cancel import CancelToken
from relforge.engine.cli import DockerCli, find_cli
from relforge.engine.client import connect
from relforge.engine.images import find_image
from relforge.errors import ExitCode
from relforge.manifest.site import Site, replaced

_ASK_TIMEOUT_S = 4


@dataclass(frozen=True)
class Place:
    """Where an image is had: ``asked`` is what the engine pulls, ``named`` what the manifest says.

    Both end in the digest.
    """

    asked: str
    named: str

    @classmethod
    def of(cls, reference: str, digest: str, site: Site) -> Place:
        return cls(f"{mirrored(reference, site)}@{digest}", f"{reference}@{digest}")

    def __str__(self) -> str:
        return self.asked if self.asked == self.named else f"{self.asked} (mirror of {self.named})"


@dataclass(frozen=True)
class NotHad:
    """Why an image cannot be pulled."""

    why: str


def mirrored(reference: str, site: Site) -> str:
    """The reference with the longest matching prefix of ``registry_mirrors`` replaced."""
    full = _full_name(reference)
    place = replaced(full, site.registry_mirrors)
    return reference if place == full else place


def pull(
    place: Place,
    *,
    site: Site,
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> str | NotHad:
    """Sees to it that the engine has the image; returns the name under which it has it.

    One that it has already is not asked for again, whichever of the two places it came from. The
    registry is given 4 s to answer. Raises RelforgeError (ENVIRONMENT) when the engine does not.
    """
    cli = find_cli(site.engine)
    for known in dict.fromkeys((place.asked, place.named)):
        if find_image(known, cli=cli) is not None:
            return known
    if why := _unreachable(place.asked, site):
        return NotHad(why)
    return _pull(place, cli, line, cancel)


def _pull(
    place: Place, cli: DockerCli, line: Callable[[str], None], cancel: CancelToken | None
) -> str | NotHad:
    line(f"pulling {place}")
    done = proc.run(
        cli.argv("pull", place.asked),
        code=ExitCode.ENVIRONMENT,
        env=cli.environment,
        check=False,
        cancel=cancel,
        on_line=line,
    )
    if done.returncode == 0:
        return place.asked
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return NotHad(lines[-1] if lines else f"docker pull ended with {done.returncode}")


def _full_name(reference: str) -> str:
    """The reference with its registry, as Docker completes it."""
    host, slash, rest = reference.partition("/")
    if not slash or not (host == "localhost" or any(sign in host for sign in ".:")):
        host, rest = "docker.io", reference
    if host == "index.docker.io":
        host = "docker.io"
    return f"{host}/library/{rest}" if host == "docker.io" and "/" not in rest else f"{host}/{rest}"


def _unreachable(reference: str, site: Site) -> str | None:
    # The engine asks the registry for the manifest: seconds, where a pull would retry for long.
    from docker.errors import DockerException
    from requests import RequestException

    client = connect(site.engine)
    try:
        client.api.timeout = _ASK_TIMEOUT_S
        client.api.inspect_distribution(reference)  # type: ignore[no-untyped-call]
    except (DockerException, RequestException) as error:
        if "timed out" in str(error).lower():
            return f"no answer within {_ASK_TIMEOUT_S} s"
        # What the engine says, without the address of its own interface.
        return str(getattr(error, "explanation", None) or error)
    finally:
        client.close()
    return None
