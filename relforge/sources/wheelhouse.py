"""The Python packages of an image: resolved to exact, hashed wheels, and fetched as a folder."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from relforge import proc
from relforge.addresses import shown
from relforge.cancel import CancelToken
from relforge.errors import ExitCode, RelforgeError
from relforge.files import held_lock, write_atomic
from relforge.frozen import content_key
from relforge.leftovers import owned_folder
from relforge.lock import LockedWheel, LockedWheels
from relforge.manifest.build import PythonPackages
from relforge.manifest.site import Site
from relforge.network import CA_VARIABLES, PROXY_HINT, ca_bundle
from relforge.sources import filestore
from relforge.sources.fetch import PackageFile, fetch_package, open_client
from relforge.sources.places import Places, why_unreachable
from relforge.sources.wheel import wanted

_RESOLVE_TIMEOUT_S = 1800.0
_REQUIREMENTS = "requirements.txt"


def platforms(machine: str, glibc_minor: int) -> tuple[str, ...]:
    """pip's platform tags for a Linux machine, the newest glibc first (PEP 600)."""
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    tags = []
    for minor in range(glibc_minor, 4, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in legacy:
            tags.append(f"{legacy[minor]}_{machine}")
    return (*tags, f"linux_{machine}")


def resolve(
    packages: PythonPackages,
    *,
    python_version: str,
    site: Site,
    ctx_line: Callable[[str], None],
    extra_requirements: Sequence[str] = (),
    build: bool = False,
    machine: str = "x86_64",
    glibc_minor: int = 36,
    index: str | None = None,
    cancel: CancelToken | None = None,
) -> LockedWheels:
    """Resolves requirements under their constraints to wheels, by pip's own resolver.

    ``index`` is a package index that is asked beside the site's places.

    ``build`` takes the packages' ``build_requirements`` instead of ``requirements``. Excluded
    packages are left out, and so is what only they asked for. pip evaluates markers for the Python
    that runs it: that one must be ``python_version``, on a machine of the same kind. Raises
    RelforgeError: code ENVIRONMENT without such a Python, SOURCE when there is no solution.
    """
    own = packages.build_requirements if build else packages.requirements
    roots = tuple(_requirement(text) for text in (*own, *extra_requirements))
    if not roots:
        return LockedWheels(python_version=python_version, machine=machine, wheels=())
    python = _python(python_version, machine)
    with tempfile.TemporaryDirectory(prefix="relforge-resolve-") as name:
        folder = Path(name)
        (folder / "wanted.txt").write_text("".join(f"{root}\n" for root in roots))
        (folder / "constraints.txt").write_text("".join(f"{c}\n" for c in packages.constraints))
        argv = [python, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-input"]
        argv += ["--disable-pip-version-check", "--quiet", "--only-binary=:all:"]
        argv += ["--python-version", python_version, "--implementation", "cp"]
        for tag in platforms(machine, glibc_minor):
            argv += ["--platform", tag]
        argv += ["--target", str(folder / "none"), "--report", str(folder / "report.json")]
        argv += ["-r", str(folder / "wanted.txt"), "-c", str(folder / "constraints.txt")]
        links, env, missing = _pip_environment(Places.of(site, index), ctx_line, folder)
        ctx_line(f"resolving {len(roots)} requirements for Python {python_version}")
        proc.run(
            [*argv, *links],
            code=ExitCode.SOURCE,
            what="the Python requirements cannot be resolved",
            hint=_hint(missing),
            env=env,
            timeout_s=_RESOLVE_TIMEOUT_S,
            cancel=cancel,
        )
        report = json.loads((folder / "report.json").read_text())
    excluded = {canonicalize_name(name) for name in packages.exclude}
    return LockedWheels(
        python_version=python_version,
        machine=machine,
        index=index,
        wheels=_closure(report, roots, excluded),
    )


def _requirement(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise RelforgeError(
            f"not a Python requirement: {text}",
            code=ExitCode.USAGE,
            why=str(error),
            hint="write it as in PEP 508, e.g. `numpy>=2,<3`",
        ) from error


def _python(version: str, machine: str) -> str:
    """A Python of that minor version with pip, of this machine's kind."""
    if os.uname().machine != machine:
        raise RelforgeError(
            f"wheels for {machine} are resolved on such a machine; this one is "
            f"{os.uname().machine}",
            code=ExitCode.ENVIRONMENT,
            hint="run `relforge lock` on a machine of that kind; the lock is good everywhere",
        )
    ask = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    for candidate in (sys.executable, shutil.which(f"python{version}"), shutil.which("python3")):
        if candidate:
            done = proc.run([candidate, "-c", ask], code=ExitCode.ENVIRONMENT, check=False)
            if done.returncode == 0 and done.text == version:
                return candidate
    raise RelforgeError(
        f"no Python {version} with pip is here to resolve the requirements",
        code=ExitCode.ENVIRONMENT,
        why="pip evaluates markers for the Python that runs it",
        hint=f"install python{version} with pip, or run `relforge lock` where it is",
    )


def _hint(missing: Sequence[str]) -> str:
    compare = (
        "compare build.python requirements and constraints in the manifest with the reason above; "
        "`relforge lock` tries again"
    )
    if not missing:
        return compare
    # The requirements are seldom at fault when a place that has the packages was not asked.
    network = PROXY_HINT if any("the proxy " in one for one in missing) else "check the network"
    return f"not asked: {'; '.join(missing)}. {network}; else {compare}"


def _pip_environment(
    places: Places, ctx_line: Callable[[str], None], folder: Path
) -> tuple[list[str], dict[str, str], list[str]]:
    """pip's arguments and configuration, spelt out, and the places left out: they do not answer.

    pip would wait minutes for each of those. Addresses go through the environment, as they can
    carry credentials; local folders go as arguments, as the environment cannot carry spaces.
    """
    answering: dict[str, list[str]] = {"index": [], "find_links": []}
    links: list[str] = []
    missing: list[str] = []
    for kind, urls in (("index", places.index_urls), ("find_links", places.find_links)):
        for url in urls:
            if why := why_unreachable(url, places.timeout_s, proxies=places.proxies(url)):
                missing.append(f"{shown(url)} ({why})")
                ctx_line(f"left out: {missing[-1]}")
            elif "://" in url:
                answering[kind].append(url)
            elif Path(url).exists():
                links += ["--find-links", url]
    env = {name: "" for name in os.environ if name.startswith("PIP_")}
    env["PIP_CONFIG_FILE"] = os.devnull
    if answering["index"]:
        env["PIP_INDEX_URL"], *more = answering["index"]
        env["PIP_EXTRA_INDEX_URL"] = " ".join(more)
    else:
        env["PIP_NO_INDEX"] = "1"
    env["PIP_FIND_LINKS"] = " ".join(answering["find_links"])
    env["PIP_TRUSTED_HOST"] = " ".join(places.trusted_hosts)
    cert = places.cert
    if places.extra_ca is not None:
        cert = str(ca_bundle(places.extra_ca, folder, usual=cert))
        # Where the environment names one, pip's own library takes that before --cert.
        env |= dict.fromkeys(CA_VARIABLES, cert)
    for name, value in (
        ("PIP_CERT", cert),
        ("PIP_CLIENT_CERT", places.client_cert),
        ("PIP_PROXY", places.proxy),
    ):
        if value:
            env[name] = value
    if places.site_proxy is not None:
        env |= places.site_proxy.environment()
    return links, env, missing


def _closure(
    report: Mapping[str, Any], roots: Sequence[Requirement], excluded: set[Any]
) -> tuple[LockedWheel, ...]:
    """What the roots need, walked through each wheel's metadata but not through excluded ones.

    The report's format: https://pip.pypa.io/en/stable/reference/installation-report/ (version 1).
    """
    environment: dict[str, str] = report["environment"]
    items = {canonicalize_name(item["metadata"]["name"]): item for item in report["install"]}
    extras: dict[Any, frozenset[str]] = {}
    queue = [root for root in roots if wanted(root.marker, (), environment)]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in excluded or name not in items:
            continue
        known = extras.get(name)
        now = (known or frozenset()) | requirement.extras
        if known is not None and now == known:
            continue
        extras[name] = now
        for text in items[name]["metadata"].get("requires_dist", ()):
            needed = Requirement(text)
            if wanted(needed.marker, now, environment):
                queue.append(needed)
    return tuple(_locked(items[name]) for name in sorted(extras))


def _sha256_of(archive_info: Mapping[str, Any]) -> str | None:
    """The report's hash; pip before 23.1 names it in another form for files of a folder."""
    if found := archive_info.get("hashes", {}).get("sha256"):
        return str(found)
    algorithm, _, value = str(archive_info.get("hash", "")).partition("=")
    return value if algorithm == "sha256" else None


def _locked(item: Mapping[str, Any]) -> LockedWheel:
    from unearth import Link

    download = item["download_info"]
    metadata = item["metadata"]
    sha256 = _sha256_of(download.get("archive_info", {}))
    if sha256 is None:
        raise RelforgeError(
            f"the index gives no SHA-256 for {metadata['name']} {metadata['version']}",
            code=ExitCode.SOURCE,
            hint="use an index that publishes SHA-256 hashes",
        )
    return LockedWheel(
        name=canonicalize_name(metadata["name"]),
        version=metadata["version"],
        file_name=Link(download["url"]).filename,
        sha256=sha256,
    )


def download(
    locked: LockedWheels,
    *,
    home: Path,
    site: Site,
    ctx_line: Callable[[str], None],
    jobs: int = 4,
    cancel: CancelToken | None = None,
) -> Path:
    """The folder with all locked wheels and a hashed ``requirements.txt``; made when not there.

    It holds hard links into the file store, so what was fetched before is not fetched again. Every
    wheel that cannot be had is named in one RelforgeError with code SOURCE.
    """
    key = content_key(locked)
    folder = home / "store" / "wheelhouses" / key
    lock = home / "store" / "locks" / f"wheelhouse-{key}.lock"
    with held_lock(lock, on_wait=ctx_line, cancel=cancel):
        if not _complete(folder, locked):
            paths = _fetch_all(locked, home, site, ctx_line, jobs, cancel)
            _link_all(folder, locked, paths)
    return folder


def requirements_text(locked: LockedWheels) -> str:
    """The lines for ``pip install --no-deps --require-hashes -r``."""
    rows = (f"{w.name}=={w.version} --hash=sha256:{w.sha256}\n" for w in locked.wheels)
    return "".join(rows)


def _stamps(folder: Path, locked: LockedWheels) -> dict[str, list[int]]:
    found = {}
    for name in (_REQUIREMENTS, *(wheel.file_name for wheel in locked.wheels)):
        stamp = filestore.stamp_of(folder / name)
        found[name] = [stamp.size_bytes, stamp.mtime_ns, stamp.inode]
    return found


def _complete(folder: Path, locked: LockedWheels) -> bool:
    # As git's index does it: size, mtime and inode of every file are as they were when hashed.
    try:
        return bool(json.loads(_stamp_file(folder).read_text()) == _stamps(folder, locked))
    except (OSError, ValueError):
        return False


def _stamp_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _fetch_all(
    locked: LockedWheels,
    home: Path,
    site: Site,
    ctx_line: Callable[[str], None],
    jobs: int,
    cancel: CancelToken | None,
) -> list[Path]:
    files = home / "store" / "files"

    with open_client(Places.of(site, locked.index)) as client, ThreadPoolExecutor(jobs) as pool:

        def fetch(wheel: LockedWheel) -> Path:
            return fetch_package(
                PackageFile(wheel.name, wheel.version, wheel.sha256, "wheel"),
                site=site,
                files=files,
                ctx_line=ctx_line,
                cancel=cancel,
                client=client,
            )

        waiting: list[Future[Path]] = [pool.submit(fetch, wheel) for wheel in locked.wheels]
        errors = []
        paths = []
        try:
            for future in waiting:
                try:
                    paths.append(future.result())
                except RelforgeError as error:
                    errors.append(error)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if len(errors) > 1:
        raise RelforgeError(
            f"{len(errors)} of {len(locked.wheels)} wheels could not be had",
            code=ExitCode.SOURCE,
            where=errors[0].where,
            why="\n".join(f"{error.what}: {error.why}" for error in errors),
            hint=errors[0].hint,
        )
    if errors:
        raise errors[0]
    return paths


def _link_all(folder: Path, locked: LockedWheels, paths: Sequence[Path]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with owned_folder(folder.parent, f".{folder.name}") as fresh:
        for wheel, path in zip(locked.wheels, paths, strict=True):
            (fresh / wheel.file_name).hardlink_to(path)
        (fresh / _REQUIREMENTS).write_text(requirements_text(locked))
        fresh.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    write_atomic(_stamp_file(folder), json.dumps(_stamps(folder, locked)).encode())
