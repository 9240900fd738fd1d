"""The base of an image: a registry's by digest where that is reachable, else made from packages.

Either way it is BuildKit that builds what images stand on: from a tar of the root file system that
was bootstrapped, or by copying the pulled image once. Engine 26 forgets the cache of every step
that stands on an imported, loaded or pulled image whenever one record is pruned (as is done after
a build of sealed sources), and keeps steps on an image that BuildKit itself built.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from relforge import proc
from relforge.addresses import shown
from relforge.cancel import CancelToken
from relforge.engine import apt, rootfs
from relforge.engine.build_words import BuildRequest
from relforge.engine.buildx import build, build_into_engine
from relforge.engine.cli import find_cli
from relforge.engine.contents import contents
from relforge.engine.given_image import load_requested
from relforge.engine.images import find_image
from relforge.engine.pulling import NotHad, Place, pull
from relforge.errors import ExitCode, RelforgeError
from relforge.files import held_lock, sha256_file, write_atomic
from relforge.frozen import Frozen, canonical_json, content_key
from relforge.manifest.facts import (
    UNRESOLVED,
    BaseImage,
    BootstrapBase,
    RegistryBase,
    RequestedImage,
)
from relforge.manifest.site import Site
from relforge.network import PROXY_HINT, Proxy, proxies_for
from relforge.sources.places import proxy_of, why_unreachable
from relforge.workarea import work_area

LABEL_KEY = "org.relforge.base-key"
_RECIPE = 1
_LOCK_WAIT_S = 1800.0
_DOCKERFILE = 'FROM scratch\nADD rootfs.tar /\nCMD ["/bin/sh"]\n'


class BaseResult(Frozen):
    """``reference`` goes into FROM. ``digest`` is the manifest's: the registry's own where it came
    from one. ``place`` is where that was pulled from, a mirror perhaps; None for a bootstrapped
    base, and where nobody noted it. ``system`` is the distribution, where the image tells it.
    ``packages`` are Debian's (name, version), empty for an image without them. ``key`` is the
    content key of what was declared."""

    how: Literal["registry", "bootstrap", "archive"]
    reference: str
    digest: str
    place: str | None = None
    system: apt.System | None = None
    packages: tuple[tuple[str, str], ...] = ()
    key: str
    reused: bool = False


class _Pulled(Frozen):
    """What is kept beside the copy of a registry's image."""

    key: str
    place: str


class _Made(Frozen):
    """What is kept beside a bootstrapped root file system."""

    key: str
    rootfs_sha256: str
    packages: tuple[tuple[str, str], ...]


def base_key(spec: BootstrapBase, architecture: str) -> str:
    """The content key of a bootstrapped base: its specification, not the packages of the day."""
    return content_key({"recipe": _RECIPE, "spec": spec, "architecture": architecture})


def base_keys(base: object, architecture: str) -> tuple[str, ...]:
    """The keys of every base that an image may stand on, of what a build's inputs say of it."""
    try:
        named = BaseImage.model_validate(base)
    except ValidationError:
        return ()  # of another version of relforge
    found = []
    if named.registry is not None:
        parts = {"recipe": _RECIPE, "registry": named.registry, "architecture": architecture}
        found.append(content_key(parts))
    if named.on_request is not None:
        parts = {"recipe": _RECIPE, "on_request": named.on_request, "architecture": architecture}
        found.append(content_key(parts))
    if named.bootstrap is not None:
        found.append(base_key(named.bootstrap, architecture))
    return tuple(found)


def ensure_base(
    base: BaseImage,
    *,
    architecture: str,
    site: Site,
    home: Path,
    ctx_line: Callable[[str], None] = lambda _line: None,
    cancel: CancelToken | None = None,
) -> BaseResult:
    """Makes sure that the engine has the base image.

    A registry is asked by the engine and given 4 s to answer. Raises RelforgeError (ENVIRONMENT)
    when neither way works. Raises Cancelled; no work folder is left behind.
    """
    if base.on_request is not None:
        return _from_archive(base.on_request, architecture, site, home, ctx_line, cancel)
    unreachable = "the site configuration asks for a bootstrapped base"
    if base.registry is not None and site.base_image != "bootstrap":
        found = _from_registry(base.registry, architecture, site, home, ctx_line, cancel)
        if isinstance(found, BaseResult):
            return found
        unreachable = found
        ctx_line(f"registry of the base image: {unreachable}")
    if base.bootstrap is None or site.base_image == "registry":
        raise _nothing_had(base, site, unreachable)
    return _bootstrapped(
        base.bootstrap,
        architecture=architecture,
        site=site,
        home=home,
        ctx_line=ctx_line,
        cancel=cancel,
    )


def _nothing_had(base: BaseImage, site: Site, unreachable: str) -> RelforgeError:
    named = base.registry
    place = Place.of(named.reference, named.digest, site) if named else None
    reach = "make the registry reachable for the engine"
    if place is not None and place.asked != place.named:
        reach = f"{reach}, or correct registry_mirrors in {site.file or 'the site configuration'}"
    return RelforgeError(
        "no base image can be had",
        code=ExitCode.ENVIRONMENT,
        where=str(place or "the device's base image"),
        why=unreachable if place else "the device manifest declares no registry",
        hint=reach
        if base.bootstrap is None
        else f"{reach}; or set base_image: auto in the site configuration",
    )


def _from_registry(
    base: RegistryBase,
    architecture: str,
    site: Site,
    home: Path,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> BaseResult | str:
    """The registry's image as BuildKit's own, or why it cannot be had."""
    if base.digest == UNRESOLVED:
        return f"nobody resolved {base.reference} to a digest; write it into the device manifest"
    cli = find_cli(site.engine)
    key = content_key({"recipe": _RECIPE, "registry": base, "architecture": architecture})
    name = f"relforge-base:{key[:12]}"
    copy = find_image(name, cli=cli)
    reused = copy is not None and copy.labels.get(LABEL_KEY) == key
    note = home / "base" / key / "pulled.json"
    if not reused:
        place = Place.of(base.reference, base.digest, site)
        had = pull(place, site=site, line=ctx_line, cancel=cancel)
        if isinstance(had, NotHad):
            return had.why
        lock = home / "work" / f"base-{key[:12]}.lock"
        with held_lock(lock, purpose="base image", wait_s=_LOCK_WAIT_S, cancel=cancel):
            _copy_pulled(had, name, key, home, site, ctx_line, cancel)
            # Not a label of the copy: every image on it would inherit that.
            write_atomic(note, canonical_json(_Pulled(key=key, place=had)))
    carried = contents(name, cli)
    return BaseResult(
        how="registry",
        reference=name,
        digest=base.digest,
        place=_place(note, key),
        system=carried.system,
        packages=carried.packages,
        key=key,
        reused=reused,
    )


def _from_archive(
    base: RequestedImage,
    architecture: str,
    site: Site,
    home: Path,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> BaseResult:
    """The image that somebody handed out, as BuildKit's own."""
    key = content_key({"recipe": _RECIPE, "on_request": base, "architecture": architecture})
    name = f"relforge-base:{key[:12]}"
    cli = find_cli(site.engine)
    copy = find_image(name, cli=cli)
    reused = copy is not None and copy.labels.get(LABEL_KEY) == key
    if not reused:
        loaded = load_requested(base, architecture, cli=cli, site=site, cancel=cancel)
        lock = home / "work" / f"base-{key[:12]}.lock"
        with held_lock(lock, purpose="base image", wait_s=_LOCK_WAIT_S, cancel=cancel):
            # BuildKit takes no image by its id alone.
            given = f"relforge-given:{key[:12]}"
            proc.run(
                cli.argv("tag", loaded.id, given), code=ExitCode.ENVIRONMENT, env=cli.environment
            )
            _copy_pulled(given, name, key, home, site, ctx_line, cancel)
    carried = contents(name, cli)
    return BaseResult(
        how="archive",
        reference=name,
        digest=base.digest,
        system=carried.system,
        packages=carried.packages,
        key=key,
        reused=reused,
    )


def _copy_pulled(
    reference: str,
    name: str,
    key: str,
    home: Path,
    site: Site,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> None:
    pulled = find_image(reference, site=site.engine)
    # A vendor's image finds its own programs and libraries by these.
    env = "".join(f"ENV {_env_line(pair)}\n" for pair in (pulled.env if pulled else ()))
    folder = home / "base" / key
    write_atomic(
        folder / "Dockerfile",
        (
            f"FROM {reference} AS pulled\nFROM scratch\nCOPY --from=pulled / /\n{env}"
            'CMD ["/bin/sh"]\n'
        ).encode(),
    )
    ctx_line(f"copying {reference} into {name}")
    build_into_engine(
        _request(folder, "empty-context", key, name),
        site=site.engine,
        ctx_line=ctx_line,
        cancel=cancel,
    )


def _request(folder: Path, context: str, key: str, name: str) -> BuildRequest:
    """The build of a base image, of the Dockerfile in its folder."""
    return BuildRequest(
        dockerfile=folder / "Dockerfile",
        context=folder / context,
        labels={LABEL_KEY: key},
        source_date_epoch=0,
        image_name=name,
        layout=folder / "layout",
        log=folder / "build.log",
    )


def _env_line(pair: str) -> str:
    """A variable as ENV takes it, with nothing of it expanded."""
    name, _, value = pair.partition("=")
    for sign in ("\\", '"', "$"):
        value = value.replace(sign, f"\\{sign}")
    return f'{name}="{value}"'


def _bootstrapped(
    spec: BootstrapBase,
    *,
    architecture: str,
    site: Site,
    home: Path,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> BaseResult:
    key = base_key(spec, architecture)
    system = apt.System(distribution="debian", suite=spec.suite)
    name = f"relforge-base:{key[:12]}"
    cli = find_cli(site.engine)
    kept = home / "base" / key
    image = find_image(name, cli=cli)
    if image is not None and image.labels.get(LABEL_KEY) == key:
        made = _read(kept / "base.json", key)
        return BaseResult(
            how="bootstrap",
            reference=name,
            digest=image.id,
            system=system,
            packages=made.packages if made else contents(name, cli).packages,
            key=key,
            reused=True,
        )
    lock = home / "work" / f"base-{key[:12]}.lock"
    with held_lock(lock, purpose="base image", wait_s=_LOCK_WAIT_S, cancel=cancel):
        made = _read(kept / "base.json", key)
        archive = kept / "context" / "rootfs.tar"
        if made is None or not archive.is_file() or sha256_file(archive) != made.rootfs_sha256:
            rootfs.require_tools(architecture)
            ctx_line(f"bootstrapping {spec.suite} ({spec.variant}) for {architecture}")
            made = _make(spec, key, kept, home, architecture, site, ctx_line, cancel)
        write_atomic(kept / "Dockerfile", _DOCKERFILE.encode())
        built = build(
            _request(kept, "context", key, name),
            site=site.engine,
            ctx_line=ctx_line,
            cancel=cancel,
        )
    return BaseResult(
        how="bootstrap",
        reference=name,
        digest=built.image_digest,
        system=system,
        packages=made.packages,
        key=key,
    )


def _make(
    spec: BootstrapBase,
    key: str,
    kept: Path,
    home: Path,
    architecture: str,
    site: Site,
    ctx_line: Callable[[str], None],
    cancel: CancelToken | None,
) -> _Made:
    (kept / "context").mkdir(parents=True, exist_ok=True)
    with work_area(home, f"base-{key[:12]}") as work:
        root = work / "root"
        started = rootfs.now()
        mirror = apt.bootstrap_mirror(spec.suite, site)
        _refuse_silent_mirror(mirror or apt.default_mirror(), site)
        rootfs.bootstrap(
            spec,
            root,
            architecture=architecture,
            mirror=mirror,
            environment=rootfs.environment(site, work),
            line=ctx_line,
            cancel=cancel,
        )
        status = (root / "var/lib/dpkg/status").read_text()
        rootfs.normalise(root, started=started, apt_sources=apt.image_sources(spec.suite, mirror))
        rootfs.pack(root, work / "rootfs.tar", cancel)
        made = _Made(
            key=key,
            rootfs_sha256=sha256_file(work / "rootfs.tar"),
            packages=rootfs.packages(status),
        )
        (work / "rootfs.tar").replace(kept / "context" / "rootfs.tar")
        write_atomic(kept / "base.json", canonical_json(made))
    return made


def _place(note: Path, key: str) -> str | None:
    try:
        pulled = _Pulled.model_validate_json(note.read_bytes())
    except (OSError, ValueError):
        return None
    return pulled.place if pulled.key == key else None


def _refuse_silent_mirror(mirror: str | None, site: Site) -> None:
    # wget itself tries for many minutes.
    if mirror is None:
        return
    proxies = proxies_for(mirror, Proxy.of(site))
    if why := why_unreachable(mirror, site.python.index_timeout_s, proxies=proxies):
        check = "check the network, or name another mirror (apt_mirror in the site configuration)"
        raise RelforgeError(
            "the Debian mirror cannot be reached",
            code=ExitCode.ENVIRONMENT,
            where=f"{shown(mirror)}, for debootstrap",
            why=why,
            hint=f"{PROXY_HINT}; else {check}" if proxy_of(mirror, proxies) else check,
        )


def _read(path: Path, key: str) -> _Made | None:
    try:
        made = _Made.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return made if made.key == key else None
