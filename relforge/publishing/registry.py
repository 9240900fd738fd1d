"""Pushes a release's image to an OCI registry and reads it back.

The engine does the sending, for these reasons: with containerd's image store it sends the layout's
very bytes, so the manifest digest stays (tested, and checked here after every push); it uses
Docker's own logins, credential helpers, certificates and list of insecure registries; and it sends
no layer that the registry has. ``docker buildx imagetools inspect --raw`` reads the manifest back
with the same logins; its SHA-256 is computed here, so a registry's word is not taken for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from relforge import proc
from relforge.cancel import CancelToken
from relforge.engine.cli import DockerCli, find_cli
from relforge.engine.images import load_into_engine
from relforge.engine.layout import describe
from relforge.errors import ExitCode, RelforgeError
from relforge.frozen import Frozen
from relforge.manifest.site import EngineSite
from relforge.oci.reference import TAG, Repository

_READ_TIMEOUT_S = 30.0

_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"\b401\b|unauthorized|authentication required|no basic auth",
        "it wants a login",
        "docker login {host}, then the same command again",
    ),
    (
        r"\b403\b|forbidden|denied|insufficient[ _]scope",
        "the login may not write there",
        "docker login {host} with an account that may push to {name}",
    ),
    (
        r"x509|certificate|tls:",
        "its certificate is not accepted, or it speaks plain HTTP",
        "give the engine the registry's CA, or list {host} under insecure-registries in its "
        "daemon.json",
    ),
    (
        r"connection refused|no such host|i/o timeout|no route to host|deadline exceeded",
        "it cannot be reached",
        "check the host name and that the registry runs: {host}",
    ),
    (r"\b429\b|too many requests|toomanyrequests", "it asks to slow down", "try again later"),
    (
        r"\b5\d\d\b|internal server error|bad gateway|service unavailable",
        "it failed itself",
        "look into the registry's log, then run the same command again",
    ),
    (
        r"\b404\b|not found|name unknown",
        "it does not know the repository",
        "create the repository {name} on {host}, or correct the name",
    ),
)


class PushResult(Frozen):
    """``reference`` is HOST/NAME@DIGEST. ``sent`` is False when the tag pointed to this digest
    already; ``moved_from`` is the digest that the tag pointed to before."""

    reference: str
    tag: str
    digest: str
    sent: bool
    moved_from: str | None


def push(
    layout: Path,
    repository: Repository,
    *,
    tag: str,
    image_name: str,
    site: EngineSite | None = None,
    network: Mapping[str, str] = {},
    line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> PushResult:
    """Pushes the layout's image under ``tag`` and checks that the registry has that very digest.

    ``network`` is the site's proxy and certificates for reading (``network.for_children``); the
    engine pushes with its own settings.

    ``image_name`` is what the engine calls the image; it is loaded when it is gone. Nothing is
    sent when the tag points to this digest already. Raises RelforgeError (PUBLISH) with the
    registry's reason, (ENVIRONMENT) when the engine does not answer, (USAGE) for a bad tag.
    """
    if not TAG.fullmatch(tag):
        raise RelforgeError(
            f"{json.dumps(tag)} is not a tag",
            code=ExitCode.USAGE,
            why="tags have up to 128 letters, digits, dots, dashes and underscores",
        )
    facts = describe(layout, code=ExitCode.PUBLISH)
    cli = find_cli(site)
    tagged = f"{repository}:{tag}"
    reference = f"{repository}@{facts.digest}"
    before = _before(cli, repository, tagged, network, cancel)
    if before == facts.digest:
        line(f"{reference}: already there")
        return PushResult(
            reference=reference, tag=tag, digest=facts.digest, sent=False, moved_from=None
        )
    image = load_into_engine(layout, image_name, site=site, cancel=cancel)
    if image.id != facts.digest:
        raise RelforgeError(
            "this engine would push another image than the one that was built",
            code=ExitCode.PUBLISH,
            where=tagged,
            why="its classic image store compresses layers anew, which changes the digest",
            hint="use an engine with containerd's image store: scripts/engine up",
        )
    _send(cli, repository, image.id, tagged, line, cancel)
    for shown in (reference, tagged):
        found = remote_digest(shown, site=site, network=network, cancel=cancel)
        if found != facts.digest:
            raise RelforgeError(
                "the registry does not have the image that was pushed",
                code=ExitCode.PUBLISH,
                where=shown,
                why=f"wanted {facts.digest}, it has {found or 'nothing'}",
                hint="run the same command again; if that does not help, look into the "
                "registry's log",
            )
    return PushResult(
        reference=reference, tag=tag, digest=facts.digest, sent=True, moved_from=before
    )


def remote_digest(
    reference: str,
    *,
    site: EngineSite | None = None,
    network: Mapping[str, str] = {},
    cancel: CancelToken | None = None,
) -> str | None:
    """The digest of the manifest that a registry gives for HOST/NAME:TAG or @DIGEST, computed
    from its bytes; None when it has none. Raises RelforgeError (PUBLISH) when it refuses."""
    cli = find_cli(site)
    host, _, rest = reference.partition("/")
    repository = Repository(host=host, name=re.split(r"[:@]", rest, maxsplit=1)[0])
    return _read(cli, repository, reference, network, cancel)


def _before(
    cli: DockerCli,
    repository: Repository,
    tagged: str,
    network: Mapping[str, str],
    cancel: CancelToken | None,
) -> str | None:
    # Some registries answer a question about a repository that does not exist yet with 401 or
    # 403: whether pushing is allowed is decided by the push.
    try:
        return _read(cli, repository, tagged, network, cancel)
    except RelforgeError:
        return None


def _read(
    cli: DockerCli,
    repository: Repository,
    reference: str,
    network: Mapping[str, str],
    cancel: CancelToken | None,
) -> str | None:
    done = proc.run(
        [cli.buildx_plugin, "imagetools", "inspect", "--raw", reference],
        code=ExitCode.PUBLISH,
        env={**_login_env(cli), **network},
        timeout_s=_READ_TIMEOUT_S,
        check=False,
        cancel=cancel,
        hint=f"check that {repository.host} answers, then run the same command again",
    )
    if done.returncode == 0:
        return f"sha256:{hashlib.sha256(done.stdout).hexdigest()}"
    said = done.stderr.decode("utf-8", "replace").strip()
    if re.search(r": not found$", said):
        return None
    raise _refused("the registry could not be read", repository, reference, said)


def _send(
    cli: DockerCli,
    repository: Repository,
    image_id: str,
    tagged: str,
    line: Callable[[str], None],
    cancel: CancelToken | None,
) -> None:
    env = _login_env(cli)
    proc.run(cli.argv("tag", image_id, tagged), code=ExitCode.PUBLISH, env=env)
    try:
        done = proc.run(
            cli.argv("push", tagged),
            code=ExitCode.PUBLISH,
            env=env,
            check=False,
            cancel=cancel,
            on_line=line,
        )
    finally:
        # The name in the registry is not the engine's name of the image.
        proc.run(cli.argv("rmi", tagged), code=ExitCode.PUBLISH, env=env, check=False)
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip() or done.text
        raise _refused("the registry did not take the image", repository, tagged, said)


def _refused(what: str, repository: Repository, where: str, said: str) -> RelforgeError:
    cause, hint = "the engine's push failed", "run the same command again"
    # Digests are hexadecimal and may contain any "status code".
    plain = re.sub(r"sha256:[0-9a-f]{64}|\"?https?://\S+", "", said).lower()
    for pattern, found, remedy in _CAUSES:
        if re.search(pattern, plain):
            cause, hint = found, remedy.format(host=repository.host, name=repository.name)
            break
    rows = [row for row in said.splitlines() if row.strip()]
    return RelforgeError(
        what,
        code=ExitCode.PUBLISH,
        where=where,
        why=f"{cause}: {rows[-1] if rows else 'no message'}",
        hint=hint,
    )


def _login_env(cli: DockerCli) -> dict[str, str]:
    """The client's environment, with the user's own logins where its settings folder has none.

    An engine that relforge set up has a settings folder of its own, and ``docker login`` writes
    to the user's.
    """
    env = cli.environment
    own = Path(env["DOCKER_CONFIG"]) if "DOCKER_CONFIG" in env else None
    users = Path(os.environ.get("HOME", "/root")) / ".docker"
    if own is None or _has_logins(own) or not _has_logins(users):
        return env
    return {**env, "DOCKER_CONFIG": str(users), "BUILDX_CONFIG": str(own / "buildx")}


def _has_logins(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return any(config.get(name) for name in ("auths", "credsStore", "credHelpers"))
