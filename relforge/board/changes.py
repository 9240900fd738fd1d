"""What changed since the release before, as rows: those of ``relforge notes``, laid out flat."""

from __future__ import annotations

from collections.abc import Iterator

from relforge.board.model import ChangeRow, Changes
from relforge.notes.compare import compare_records
from relforge.notes.model import Changed, Notes
from relforge.notes.record import Record
from relforge.ui.text import size


def changes_between(old: Record, new: Record) -> Changes:
    """Raises RelforgeError (USAGE) for records of different devices or models."""
    notes = compare_records(old, new)
    return Changes(
        created=old.created,
        run=old.run,
        digest=old.image_digest,
        rows=tuple(_rows(notes)),
    )


def _rows(notes: Notes) -> Iterator[ChangeRow]:
    yield from _plain("weights", notes.weights)
    for source in notes.sources:
        before, after = source.before, source.after
        if before == after:  # the same pin gives another tree
            before, after = source.tree_before, source.tree_after
        yield ChangeRow(group="sources", name=source.source, before=before, after=after)
    yield from _patches(notes)
    yield from _plain("base image", notes.base)
    yield from _image(notes)
    for group, packages in (
        ("Python packages", notes.python_packages),
        ("Debian packages", notes.debian_packages),
    ):
        for package in packages:
            yield ChangeRow(
                group=group, name=package.name, before=package.before, after=package.after
            )
    yield from _measured(notes)
    yield from _plain("coverage", notes.coverage)
    yield from _plain("verdicts", notes.verdicts)
    yield from _plain("serving", notes.serving)
    yield from _plain("limits", notes.limits)


def _plain(group: str, rows: tuple[Changed, ...]) -> Iterator[ChangeRow]:
    for row in rows:
        yield ChangeRow(group=group, name=row.name, before=row.before, after=row.after)


def _patches(notes: Notes) -> Iterator[ChangeRow]:
    for one in notes.patches:
        for name in one.added:
            yield ChangeRow(group="patches", name=f"{one.name}/{name}", before=None, after="+")
        for name in one.removed:
            yield ChangeRow(group="patches", name=f"{one.name}/{name}", before="-", after=None)
        for name in one.changed:
            yield ChangeRow(group="patches", name=f"{one.name}/{name}", before="·", after="±")
        for before, after in one.renamed:
            yield ChangeRow(group="patches", name=one.name, before=before, after=after)
        if one.tree_before != one.tree_after:
            yield ChangeRow(
                group="patches", name=one.name, before=one.tree_before, after=one.tree_after
            )


def _image(notes: Notes) -> Iterator[ChangeRow]:
    image = notes.image
    if image is None:
        return
    for name, before, after in (
        ("compressed size", image.before_bytes, image.after_bytes),
        ("unpacked size", image.unpacked_before_bytes, image.unpacked_after_bytes),
    ):
        told = [None if one is None else size(one) for one in (before, after)]
        if told[0] != told[1]:
            yield ChangeRow(group="image", name=name, before=told[0], after=told[1])
    if image.new_layers_bytes:
        yield ChangeRow(
            group="image", name="to fetch", before=None, after=size(image.new_layers_bytes)
        )


def _measured(notes: Notes) -> Iterator[ChangeRow]:
    for task in notes.accuracy:
        told = [
            None if one is None else f"{one:.2f} %"
            for one in (task.before_percent, task.after_percent)
        ]
        if told[0] != told[1]:
            # Whether that is more than chance is what the finding says.
            found = None if told[1] is None else f"{told[1]}, {task.finding}"
            name = f"{task.task}, {task.metric}"
            yield ChangeRow(group="accuracy", name=name, before=told[0], after=found)
    for level in notes.bench.levels if notes.bench else ():
        sides = [
            None if side is None else f"{side.output_tokens_per_s:.0f} tokens/s"
            for side in (level.before, level.after)
        ]
        if sides[0] != sides[1]:
            yield ChangeRow(
                group="performance",
                name=f"{level.concurrency} at a time",
                before=sides[0],
                after=sides[1],
            )
