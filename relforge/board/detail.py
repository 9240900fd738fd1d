"""A release record as the page shows it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from relforge.board.charts import Chart, bench_chart, evaluation_chart
from relforge.board.model import (
    Changes,
    Link,
    Named,
    PatchSetRow,
    Recorded,
    RecordedStage,
    SourceRow,
)
from relforge.errors import RelforgeError
from relforge.frozen import sha256_hex
from relforge.notes.record import Level, Record
from relforge.publishing.published import CONTENTS, HUB_CARDS, RECORD, SEAL, read_published
from relforge.ui.text import size

_BENCH_CHART = "evidence/bench.svg"
_SHOWN = ("evidence/", HUB_CARDS, "README", ".eval_results/")
"""What of a release's folder is linked: all but the image and the weights."""


@dataclass(frozen=True)
class Place:
    """Where a release's folder lies as the page sees it. ``href`` None: not beside the board."""

    folder: Path
    href: str | None
    shown: str
    """As a user types it."""


def recorded(
    raw: Mapping[str, Any], record: Record, place: Place, changes: Changes | None
) -> tuple[Recorded, tuple[Chart, ...]]:
    """What is shown of a record, and the charts that it needs."""
    results = _dict(raw, "results")
    title = f"{record.release}, {record.image_digest[:19]}"
    links = tuple(_links(place))
    # The benchmark drew its own; it is drawn here where it does not lie beside.
    beside = next((link.href for link in links if link.name == _BENCH_CHART), None)
    drawn = {"evaluation": evaluation_chart(_dict(results, "evaluate").get("tasks"), title)}
    if beside is None:
        drawn["bench"] = bench_chart(_dict(results, "bench").get("report"), title)
    charts = {name: chart for name, chart in drawn.items() if chart is not None}
    return Recorded(
        created=record.created,
        run=record.run,
        relforge=_text(raw.get("relforge")),
        project=_project(raw),
        stages=tuple(_stages(raw, record)),
        skipped=dict(record.skipped),
        digests=tuple(_digests(raw, record)),
        facts=tuple(_facts(record)),
        sources=tuple(_sources(record)),
        patches=tuple(
            PatchSetRow(
                name=name, source=one.source, result_tree=one.result_tree, patches=one.patches
            )
            for name, one in record.lock.patches.items()
        ),
        tasks=tuple(task.model_dump(mode="json") for task in record.tasks),
        bench=_bench(record),
        charts={
            **({} if beside is None else {"bench": beside}),
            **{name: chart.file for name, chart in charts.items()},
        },
        verify=shlex.join(["relforge", "verify", place.shown]),
        cards=tuple(link for link in links if link.name.startswith("README")),
        evidence=tuple(link for link in links if not link.name.startswith("README")),
        changes=changes,
    ), tuple(charts.values())


def shown_files(folder: Path) -> dict[str, str | None]:
    """Files of a release's folder that the page links, with the SHA-256 that they are listed by."""
    try:
        listed = read_published(folder).files
    except RelforgeError:
        return {}
    found: dict[str, str | None] = {
        name: sha256 for name, sha256 in listed.items() if name.startswith(_SHOWN)
    }
    found |= dict.fromkeys((RECORD, CONTENTS, SEAL))
    return {name: sha256 for name, sha256 in found.items() if (folder / name).is_file()}


def _links(place: Place) -> Iterator[Link]:
    if place.href is None:
        return
    for name, sha256 in sorted(shown_files(place.folder).items()):
        yield Link(name=name, href=f"{place.href}/{quote(name)}", sha256=sha256)


def place_of(folder: Path, page: Path | None) -> Place:
    """A release's folder as a page in the folder *page* sees it: linked where it lies beside it.

    Without *page* the board is served, and evidence with it.
    """
    here = os.path.relpath(folder)
    shown = str(folder) if here.startswith("..") else here
    if page is None:
        return Place(folder, f"evidence/{evidence_id(folder)}", shown)
    away = os.path.relpath(folder.resolve(), page.resolve())
    beside = not away.startswith(f"..{os.sep}..")
    return Place(folder, quote(away) if beside else None, shown)


def evidence_id(folder: Path) -> str:
    """Names a release's folder in the addresses of a server."""
    return sha256_hex(str(folder).encode("utf-8", "surrogateescape"))[:20]


def _stages(raw: Mapping[str, Any], record: Record) -> Iterator[RecordedStage]:
    timings, results = _dict(raw, "timings"), _dict(raw, "results")
    rows = raw.get("stages")
    for row in rows if isinstance(rows, list) else ():
        name = _text(_dict({"row": row}, "row").get("name"))
        if name is None:
            continue
        took = timings.get(name, row.get("seconds"))
        yield RecordedStage(
            name=name,
            status=str(row.get("status")),
            seconds=float(took) if isinstance(took, (int, float)) else None,
            verdict=record.verdicts.get(name),
            reason=_text(_dict(results, name).get("reason")) or record.skipped.get(name, ""),
        )


def _digests(raw: Mapping[str, Any], record: Record) -> Iterator[Named]:
    yield Named(name="image", value=record.image_digest)
    for one in record.build.platforms:
        yield Named(name=one.platform, value=one.digest)
    for name, value in (
        ("configuration", record.build.config_digest),
        ("base image", record.build.base_digest),
        ("lock, SHA-256", _text(raw.get("lock_sha256"))),
    ):
        if value:
            yield Named(name=name, value=value)


def _facts(record: Record) -> Iterator[Named]:
    build = record.build
    for name, value in (
        ("base image", record.base_reference),
        ("made from", build.base_how),
        ("Python", build.python),
        ("compressed size", build.compressed_bytes and size(build.compressed_bytes)),
        ("unpacked size", build.unpacked_bytes and size(build.unpacked_bytes)),
        ("weights", record.weights.get("repository")),
        ("revision of the weights", record.weights.get("revision")),
    ):
        if value:
            yield Named(name=name, value=str(value))


def _sources(record: Record) -> Iterator[SourceRow]:
    patched = {one.source: one.result_tree for one in record.lock.patches.values()}
    for name, one in record.lock.sources.items():
        yield SourceRow(
            name=name,
            identity=one.identity,
            pin=one.commit or one.sha256,
            tree=one.tree,
            built_tree=patched.get(name) or one.tree,
        )


def _bench(record: Record) -> dict[str, Any] | None:
    if record.bench is None:
        return None
    settings, machine = record.bench.settings, record.bench.machine
    memory = f", {size(machine.memory_bytes)}" if machine.memory_bytes else ""
    return {
        "tool": f"{settings.tool} {settings.tool_version}",
        "processor": machine.processor,
        "cores": machine.cores,
        "memory": memory.removeprefix(", "),
        "levels": [_level(level) for level in record.bench.levels],
    }


def _level(level: Level) -> dict[str, Any]:
    figures = level.figures
    return {
        "concurrency": figures.concurrency,
        "prompts": figures.prompts,
        "request_per_s": figures.request_per_s,
        "output_tokens_per_s": figures.output_tokens_per_s,
        "ttft": figures.ttft.model_dump(mode="json"),
        "itl": figures.itl.model_dump(mode="json"),
    }


def _project(raw: Mapping[str, Any]) -> str | None:
    project = _dict(raw, "project")
    commit = _text(project.get("commit"))
    if commit and project.get("uncommitted_changes"):
        return f"{commit} +"
    return commit


def _dict(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
