"""What a registry's refusals mean, and what to do about them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.oci.reference import Repository

_MOST_SAID = 300
_WORDS: dict[int, tuple[str, str]] = {
    401: ("it wants a login", "docker login {host}, then the same command again"),
    403: (
        "the login may not do that there",
        "docker login {host} with an account that may push to {name}",
    ),
    404: (
        "it does not know the repository",
        "create the repository {name} on {host}, or correct the name",
    ),
    405: ("it does not allow that", "ask those who run {host}, or use another repository"),
    409: (
        "it says that this contradicts what it has, such as a tag that may not move",
        "look at {name} on {host}, then use another tag or run the same command again",
    ),
    413: ("it takes no piece of that size", "ask those who run {host} to raise the limit"),
    429: ("it asks to slow down", "try again later"),
}
_OWN_FAULT = (
    "it failed itself",
    "look into the registry's log, then run the same command again",
)


class Refused(RelforgeError):
    """A registry's answer that is not the one hoped for. ``status`` is HTTP's."""

    status: int = 0


def refused(
    what: str,
    where: str,
    repository: Repository,
    status: int,
    data: bytes,
    headers: Mapping[str, str],
) -> Refused:
    """The error for an answer, with the registry's own words in it."""
    cause, hint = _WORDS.get(
        status, _OWN_FAULT if status >= 500 else ("it refuses", "check the name and the login")
    )
    said = _said(data)
    later = headers.get("Retry-After")
    if status == 429 and later:
        hint = f"try again later: it says Retry-After: {later}"
    error = Refused(
        what,
        code=ExitCode.PUBLISH,
        where=redact.text(where),
        why=redact.text(f"{cause} (HTTP {status}" + (f": {said})" if said else ")")),
        hint=hint.format(host=repository.host, name=repository.name),
    )
    error.status = status
    return error


def unreachable(what: str, where: str, repository: Repository, error: Exception) -> RelforgeError:
    """The error for a connection that was not had, or broke."""
    said = redact.text(_innermost(error))[:_MOST_SAID]
    text = f"{said} {error}".lower()
    if "certificate" in text or "ssl" in text:
        cause = "its certificate is not accepted, or it speaks plain HTTP"
        hint = (
            "name the registry's CA as extra_ca in the site configuration, or put it into "
            f"/etc/docker/certs.d/{repository.host}/; a target's plain_http allows plain HTTP"
        )
    elif (
        "refused" in text or "resolve" in text or "unreachable" in text or "name or service" in text
    ):
        cause = "it cannot be reached"
        hint = f"check the host name and that the registry runs: {repository.host}"
    else:
        cause = "the connection broke, or it answers too slowly"
        hint = "run the same command again: what arrived is not sent anew"
    return RelforgeError(
        what, code=ExitCode.PUBLISH, where=redact.text(where), why=f"{cause} ({said})", hint=hint
    )


def _innermost(error: Exception) -> str:
    """What the system or the TLS library said, without the layers that libraries put around it."""
    found, asked, seen = str(error), [error], set[int]()
    while asked:
        one = asked.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OSError) and one.errno and one.strerror:
            found = one.strerror
        linked = (*one.args, getattr(one, "reason", None), one.__cause__, one.__context__)
        asked += [inner for inner in linked if isinstance(inner, Exception)]
    return found


def altered(where: str, why: str) -> RelforgeError:
    """The error for content that is not what its digest says."""
    return RelforgeError(
        "content is not what its digest says",
        code=ExitCode.PUBLISH,
        where=redact.text(where),
        why=why,
        hint="do not use it: copy it again from a place that has it whole",
    )


def _said(data: bytes) -> str:
    """The registry's own words: those of the specification's error object, else the beginning."""
    try:
        errors = json.loads(data)["errors"]
        words = [": ".join(str(e[k]) for k in ("code", "message") if e.get(k)) for e in errors]
        said = "; ".join(word for word in words if word)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = data.decode("utf-8", "replace").strip()
        said = "" if text.startswith("<") else text
    return " ".join(said.split())[:_MOST_SAID]
