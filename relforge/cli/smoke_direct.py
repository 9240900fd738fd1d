"""``relforge smoke --image`` and ``--url``: probing what is there, without the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relforge.cli.common import (
    Workplace,
    interruptible,
    print_json,
    select,
    to_stderr,
    workplace,
)
from relforge.engine.client import connect
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.run_folder import new_run_id
from relforge.manifest.release import Release
from relforge.manifest.smoke import Smoke
from relforge.rendering import LABEL
from relforge.serving.engines import engine_of
from relforge.serving.engines.base import PLAIN, ServerTraits
from relforge.serving.reference import GreedyText, read_greedy_texts
from relforge.stages.smoke import log_lines

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

    from relforge.serving.report import ProbeReport

_KNOWN_BY_OWNER = {"vllm": "vllm", "sglang": "sglang"}
"""``owned_by`` in /v1/models, and the engine that says so."""


def of_image(
    image: str,
    *,
    devices: list[str] | None,
    releases: list[str] | None,
    weights: Path | None,
    as_json: bool,
    project: Path | None,
    site: Path | None,
) -> None:
    """Starts the image as its release says, probes it and stops it.

    Raises RelforgeError (GATE) when a probe fails, (ENVIRONMENT) when the engine has no such image,
    (USAGE) when nothing tells its release.
    """
    from relforge.cli.serve_launch import launch_of
    from relforge.serving.diagnosis.advice import Manifest, advised
    from relforge.serving.expected import expected_of, says_flaggems
    from relforge.serving.site_nodes import site_hosts
    from relforge.serving.smoke import run_smoke

    place = workplace(project, site)
    engine = connect(place.site.engine)
    try:
        found = _image(engine, image)
        release = _release_of(place, found, image, devices, releases)
        model = place.project.model(release.model)
        run_id = f"smoke-{new_run_id()}"
        spec = launch_of(
            place,
            release,
            hosts=site_hosts(release, place.site),
            image=str(found.id),
            weights=weights.absolute() if weights else None,
            mount=[],
            name=f"relforge-{release.name}-{run_id[-6:]}",
            own_port=False,
            weight_files=tuple(sorted(model.weights.files)) or None,
        )
        log = place.home / "smoke" / run_id / "server.log"
        to_stderr(f"starting {image} as {release.name}; log: {log}")
        with interruptible() as cancel:
            report = run_smoke(
                spec,
                engine,
                reference=_reference(place, release),
                settings=release.smoke,
                run_id=run_id,
                log_path=log,
                cancel=cancel,
                site=place.site.engine,
                on_result=lambda result: to_stderr(result.shown()),
                expected=expected_of(
                    release,
                    place.project.device(release.device),
                    languages=model.languages,
                    flaggems=says_flaggems(release),
                ),
            )
    finally:
        engine.close()
    if report.cause is not None:
        manifest = Manifest(release, place.project.release_files.get(release.name))
        report = report.model_copy(update={"cause": advised(report.cause, manifest)})
    _told(report, image, as_json=as_json, log=log)


def of_url(
    url: str,
    *,
    devices: list[str] | None,
    releases: list[str] | None,
    served_name: str | None,
    as_json: bool,
    project: Path | None,
    site: Path | None,
) -> None:
    """Probes a server that runs; a release says what it should be called and answer.

    Raises RelforgeError (GATE) when a probe fails or nothing answers, (USAGE).
    """
    from relforge.serving.smoke import probe_url

    if not url.startswith(("http://", "https://")):
        raise RelforgeError(
            f"{url!r} is no URL of a server", code=ExitCode.USAGE, hint="http://HOST:PORT"
        )
    settings = Smoke()
    reference: tuple[GreedyText, ...] = ()
    languages: tuple[str, ...] = ()
    traits: ServerTraits | None = None
    if devices or releases:
        place = workplace(project, site)
        release = _only(place, devices, releases)
        settings, reference = release.smoke, _reference(place, release)
        languages = place.project.model(release.model).languages
        served_name = served_name or release.serve.served_name
        traits = engine_of(release.engine).traits
    if served_name is None or traits is None:
        served_name, traits = _asked(url, served_name, traits)
    with interruptible() as cancel:
        report = probe_url(
            url,
            served_name,
            reference=reference,
            settings=settings,
            traits=traits,
            languages=languages,
            cancel=cancel,
            on_result=lambda result: to_stderr(result.shown()),
        )
    _told(report, url, as_json=as_json)


def _asked(
    url: str, served_name: str | None, traits: ServerTraits | None
) -> tuple[str, ServerTraits]:
    """The only model that the server names, and what kind of server it says it is."""
    from relforge.serving.client import OpenAIClient, ServerFault

    with OpenAIClient(url.rstrip("/").removesuffix("/v1"), served_name or "") as client:
        try:
            models = client.models()
        except ServerFault as fault:
            fault.hint = "start the server, or correct the URL: it is the root of an OpenAI server"
            raise
    names = sorted({model.id for model in models})
    if served_name is None and len(names) != 1:
        raise RelforgeError(
            f"the server names {len(names)} models",
            code=ExitCode.USAGE,
            where=url,
            why=", ".join(names) or "none",
            hint="say which with --served-name",
        )
    owner = models[0].owned_by if models else None
    kind = _KNOWN_BY_OWNER.get(owner or "")
    return served_name or names[0], traits or (engine_of(kind).traits if kind else PLAIN)


def _image(engine: DockerClient, reference: str) -> Image:
    from docker.errors import APIError, ImageNotFound

    try:
        return engine.images.get(reference)
    except (ImageNotFound, APIError) as error:
        # The classic store knows a manifest digest only as that of a repository.
        for image in engine.images.list():
            digests = [one.rpartition("@")[2] for one in image.attrs.get("RepoDigests") or ()]
            if reference in digests:
                return image
        raise RelforgeError(
            f"the engine has no image {reference}",
            code=ExitCode.ENVIRONMENT,
            why=str(getattr(error, "explanation", None) or error),
            hint="docker load or pull it, or relforge build --release RELEASE",
        ) from error


def _release_of(
    place: Workplace,
    image: Image,
    reference: str,
    devices: list[str] | None,
    releases: list[str] | None,
) -> Release:
    if devices or releases:
        return _only(place, devices, releases)
    name = image.labels.get(f"{LABEL}.release")
    if name is None:
        raise RelforgeError(
            f"nothing tells which release {reference} is",
            code=ExitCode.USAGE,
            why=f"it has no label {LABEL}.release",
            hint="name the release with --release",
        )
    return place.project.release(name)


def _only(place: Workplace, devices: list[str] | None, releases: list[str] | None) -> Release:
    chosen = select(place.project, devices=devices, releases=releases, models=None)
    if len(chosen) != 1:
        raise RelforgeError(
            f"one server is probed at a time, and {len(chosen)} releases are named",
            code=ExitCode.USAGE,
            hint="name one with --release",
        )
    return chosen[0]


def _reference(place: Workplace, release: Release) -> tuple[GreedyText, ...]:
    reference = place.project.model(release.model).reference
    return read_greedy_texts(place.project.path(reference.path)) if reference else ()


def _told(report: ProbeReport, what: str, *, as_json: bool, log: Path | None = None) -> None:
    if as_json:
        print_json(report.model_dump(mode="json"))
    for line in log_lines(report):
        to_stderr(line)
    if report.verdict == "fail":
        cause = report.cause
        raise RelforgeError(
            "the smoke test failed",
            code=ExitCode.GATE,
            where=what,
            why=report.reason + (f"\nlog line: {cause.evidence}" if cause else ""),
            hint=cause.remedy if cause else "its log may say why: relforge explain LOGFILE",
            log=str(log) if log else None,
        )
