"""``relforge bench compare``: which of two images or settings serves faster?"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relforge.cli.common import (
    JsonOption,
    ProjectOption,
    SiteOption,
    Workplace,
    interruptible,
    print_json,
    to_stderr,
    workplace,
)
from relforge.errors import ExitCode, RelforgeError

if TYPE_CHECKING:
    from relforge.benching.comparing import BenchComparison, Candidate, Rules, SideName
    from relforge.manifest.bench import Bench, BenchLevel
    from relforge.manifest.release import Release


def compare(
    release: Annotated[
        str, typer.Option("--release", "-r", help="The release that is A.", metavar="NAME")
    ],
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", help="B has this setting instead.", metavar="serve.FIELD=VALUE"),
    ] = None,
    other_release: Annotated[
        str | None, typer.Option("--other-release", help="B is this release.", metavar="NAME")
    ] = None,
    image_a: Annotated[
        str | None,
        typer.Option("--image-a", help="Image of A (default: the one built here).", metavar="REF"),
    ] = None,
    image_b: Annotated[
        str | None, typer.Option("--image-b", help="Image of B.", metavar="REF")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", help="A level of the ladder (default: the highest).", min=1),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="The figure that decides.", metavar="NAME")
    ] = "output_tokens_per_s",
    margin: Annotated[
        float,
        typer.Option(
            "--margin", help="A difference that does not matter, in percent.", metavar="PERCENT"
        ),
    ] = 5.0,
    blocks: Annotated[
        int, typer.Option("--blocks", help="At most so many blocks of four runs.", min=3, max=100)
    ] = 12,
    order_seed: Annotated[
        int | None,
        typer.Option("--order-seed", help="Repeats the order of an earlier comparison.", min=0),
    ] = None,
    json_: JsonOption = False,
    project: ProjectOption = None,
    site: SiteOption = None,
) -> None:
    """Serves A and B at once, loads them in turn in random order, and says which is faster.

    Ends as soon as it is known, or after --blocks: with 0 when B is not slower, and with 6 when it
    is, or nobody can tell.
    """
    from relforge.benching import deciding

    place = workplace(project, site)
    a = place.project.release(release)
    bench = _declared(a)
    rules = _rules(
        bench, _level(bench, concurrency, a.name), metric, margin, blocks,
        secrets.randbelow(2**31) if order_seed is None else order_seed,
    )  # fmt: skip
    if sum(map(bool, (with_, other_release, image_b))) != 1:
        raise _usage(
            "it is not clear what B is",
            "name one of --with SETTING, --other-release NAME and --image-b REF",
        )
    deciding.require()
    run_id = f"bench-{secrets.token_hex(4)}"
    candidate_a = _candidate(place, "a", a, image_a, run_id)
    if with_:
        from relforge.benching.settings import changed

        same_image = candidate_a.spec.nodes[0].image
        b, label = changed(a, with_), f"{a.name} with {', '.join(with_)}"
        candidate_b = _candidate(place, "b", b, same_image, run_id, label=label)
    else:
        b = place.project.release(other_release) if other_release else a
        candidate_b = _candidate(place, "b", b, image_b, run_id)
    _show(*_compared(place, candidate_a, candidate_b, rules), json_)


def _declared(release: Release) -> Bench:
    if release.bench is None:
        raise _usage(
            f"{release.name} declares no benchmark, so that nobody knows the load",
            "add bench to its manifest: lengths and levels (docs/benchmarks.md)",
        )
    return release.bench


def _level(bench: Bench, concurrency: int | None, release: str) -> BenchLevel:
    if concurrency is None:
        return bench.levels[-1]
    for level in bench.levels:
        if level.concurrency == concurrency:
            return level
    known = ", ".join(str(level.concurrency) for level in bench.levels)
    raise _usage(
        f"the ladder of {release} has no level with {concurrency} requests at a time",
        f"choose one of {known}, or add it to bench.levels",
    )


def _rules(
    bench: Bench, level: BenchLevel, metric: str, margin: float, blocks: int, order_seed: int
) -> Rules:
    from relforge.benching.comparing import Rules, metric_names

    known = metric_names(bench)
    if metric not in known:
        raise _usage(f"there is no figure {metric!r}", f"choose one of {', '.join(known)}")
    if not 0 < margin <= 100:
        raise _usage(f"a margin of {margin:g} % is none", "more than 0, at most 100")
    return Rules(
        bench=bench,
        level=level,
        metric=metric,
        confidence=0.95,
        margin_percent=margin,
        most_blocks=blocks,
        order_seed=order_seed,
    )


def _candidate(
    place: Workplace,
    side: SideName,
    release: Release,
    image: str | None,
    run_id: str,
    *,
    label: str | None = None,
) -> Candidate:
    from relforge.benching.comparing import Candidate
    from relforge.cli.serve_launch import Planned
    from relforge.serving.spec import launch_spec

    if release.engine != "vllm" or release.serve.nodes > 1:
        raise _usage(
            f"{release.name} is not served by one vLLM server on one node",
            "relforge compares no others yet",
        )
    # As the manifests have it: a setting of --with changes neither image nor weights.
    planned = Planned(place, place.project.release(release.name), started=True)
    device = place.project.device(release.device).for_release(
        release.stack, builds=release.build.image is None
    )
    spec = launch_spec(
        release,
        device,
        image=image or planned.image,
        weights=planned.weights,
        name=f"relforge-{release.name}-{run_id}-{side}",
    )
    if spec.nodes[0].network == "host":
        raise _usage(
            f"{release.name} is served on the host's own network",
            "two servers at once would take each other's ports; relforge compares no such yet",
        )
    return Candidate(
        label=label or f"{release.name}, image {spec.nodes[0].image}", release=release, spec=spec
    )


def _compared(
    place: Workplace, a: Candidate, b: Candidate, rules: Rules
) -> tuple[BenchComparison, Path]:
    from relforge.benching.comparing import compare_servers
    from relforge.engine.client import connect
    from relforge.evidence.run_folder import new_run_id
    from relforge.files import write_atomic

    run_id = f"bench-{new_run_id()}"
    folder = place.home / "bench" / run_id
    to_stderr(f"comparing two servers; evidence: {folder}")
    engine = connect(place.site.engine)
    try:
        with interruptible() as cancel:
            comparison = compare_servers(
                a,
                b,
                rules,
                engine=engine,
                site=place.site.engine,
                run_id=run_id,
                folder=folder,
                cancel=cancel,
                on_line=to_stderr,
            )
    finally:
        engine.close()
    write_atomic(folder / "comparison.json", comparison.model_dump_json(indent=1).encode() + b"\n")
    to_stderr(f"wrote {folder / 'comparison.json'}")
    return comparison, folder


def _show(comparison: BenchComparison, folder: Path, as_json: bool) -> None:
    from relforge.benching.output import output, text

    if as_json:
        print_json(output(comparison, str(folder)).model_dump(mode="json"))
    else:
        sys.stdout.write(f"{text(comparison)}\n")
    well = comparison.conclusion in ("faster", "equivalent")
    raise typer.Exit(0 if well else int(ExitCode.GATE))


def _usage(what: str, hint: str) -> RelforgeError:
    return RelforgeError(what, code=ExitCode.USAGE, hint=hint)
