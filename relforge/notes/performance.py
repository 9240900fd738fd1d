"""What two ladders of loads tell, and what they do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from relforge.errors import ExitCode, RelforgeError
from relforge.notes.model import BenchChange, Changed, LevelChange, LoadFigures, SideBySide
from relforge.notes.record import Bench, Level, Record
from relforge.ui.text import size


def performance(
    old: Record | None, new: Record, side_by_side: SideBySide | None = None
) -> BenchChange | None:
    """Both ladders level by level; None where neither release has one, or both have the same."""
    before, after = old.bench if old else None, new.bench
    same = old is not None and old.image_digest == new.image_digest and before == after
    if (before is None and after is None) or (same and side_by_side is None):
        return None
    shown = after or before
    assert shown is not None
    levels = {
        level.figures.concurrency: None
        for ladder in (before, after)
        for level in (ladder.levels if ladder else ())
    }
    return BenchChange(
        tool=f"{shown.settings.tool} {shown.settings.tool_version}",
        machine=_machine(shown),
        levels=tuple(
            LevelChange(
                concurrency=concurrency,
                before=_figures(before, concurrency),
                after=_figures(after, concurrency),
            )
            for concurrency in sorted(levels)
        ),
        why=tuple(_unlike(before, after)) if before and after else (),
        compared=side_by_side,
    )


def _unlike(old: Bench, new: Bench) -> Iterator[Changed]:
    """What has to be the same for two figures to be of one thing."""
    rows = [
        ("load generator", *(f"{b.settings.tool} {b.settings.tool_version}" for b in (old, new))),
        ("machine", _machine(old), _machine(new)),
    ]
    loads = [{k: v for k, v in b.settings.bench.items() if k in _LOAD} for b in (old, new)]
    for name in dict.fromkeys((*loads[0], *loads[1])):
        rows.append((name, *(json.dumps(load.get(name)) for load in loads)))
    sizes = [{lv.figures.concurrency: lv.figures.prompts for lv in b.levels} for b in (old, new)]
    for concurrency in sorted(set(sizes[0]) & set(sizes[1])):
        name = f"requests at {concurrency} at a time"
        rows.append((name, *(str(one[concurrency]) for one in sizes)))
    for name, before, after in rows:
        if before != after:
            yield Changed(name=name, before=before, after=after)


_LOAD = ("input_tokens", "output_tokens", "seed")


def _machine(bench: Bench) -> str:
    host = bench.machine
    memory = f", {size(host.memory_bytes)}" if host.memory_bytes else ""
    return f"{host.processor}, {host.cores} cores{memory}"


def _figures(bench: Bench | None, concurrency: int) -> LoadFigures | None:
    found: Level | None = next(
        (level for level in (bench.levels if bench else ()) if _at(level) == concurrency), None
    )
    if found is None:
        return None
    figures = found.figures
    return LoadFigures(
        output_tokens_per_s=figures.output_tokens_per_s,
        request_per_s=figures.request_per_s,
        ttft_mean_ms=figures.ttft.mean_ms,
        itl_mean_ms=figures.itl.mean_ms,
        other_cores=found.surroundings.other_cores,
    )


def _at(level: Level) -> int:
    return level.figures.concurrency


def read_side_by_side(file: Path, old: Record, new: Record) -> SideBySide:
    """The evidence of ``relforge bench compare`` of these two images, A the earlier one.

    Raises RelforgeError (USAGE) when it cannot be read, or is about other images.
    """
    from pydantic import ValidationError

    from relforge.benching.comparing import BenchComparison

    try:
        found = BenchComparison.model_validate_json(file.read_bytes())
    except OSError as error:
        raise _refused(file, error.strerror or str(error)) from error
    except ValidationError as error:
        raise _refused(file, "it is not the comparison.json of relforge bench compare") from error
    for side, record in ((found.a, old), (found.b, new)):
        own = [one.digest for one in record.build.platforms[:1]]
        ids = (record.image_digest, record.build.config_digest, *own)
        if side.image_id not in ids:
            letter = "A" if side is found.a else "B"
            raise _refused(
                file, f"its {letter} is {side.image_id}, the record is of {record.image_digest}"
            )
    decided = found.primary.b_over_a
    return SideBySide(
        conclusion=found.conclusion,
        metric=found.rules.metric,
        ratio=decided.ratio,
        interval=(decided.low, decided.high),
        confidence=found.rules.confidence,
        margin_percent=found.rules.margin_percent,
        concurrency=found.rules.level.concurrency,
    )


def _refused(file: Path, why: str) -> RelforgeError:
    return RelforgeError(
        "this comparison of benchmarks cannot be quoted",
        code=ExitCode.USAGE,
        where=str(file),
        why=why,
        hint="relforge bench compare --release NAME --image-a OLD --image-b NEW",
    )
