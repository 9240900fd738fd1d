"""Canonical JSON and keys are those of the plain data, however they were put together."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import (
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    field_serializer,
    model_serializer,
)

from relforge.evidence.store import Store
from relforge.frozen import Frozen, canonical_json, content_key
from relforge.manifest.evaluation import Pace
from relforge.manifest.project import builtin_root, find_project
from relforge.manifest.site import Site
from relforge.pipeline import STAGES
from relforge.plan import make_plan, subject


def plain(value: Any) -> bytes:
    """The definition: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape")


class Chip(Frozen):
    name: str
    cores: Mapping[str, int] = {}


class BigChip(Chip):
    name: str
    fans: int = 2


class Board(Frozen):
    zone: str
    chip: Chip
    spare: Chip | None = None
    others: tuple[Chip, ...] = ()
    maker: str = ""


@pytest.mark.parametrize("name", ["tiny-adder-cpu_x86"])
def test_the_keys_of_a_plan_are_those_of_its_inputs_as_plain_data(
    name: str, tmp_path: Path
) -> None:
    project = find_project(builtin_root())
    found = subject(project, project.release(name), Site())
    plan = make_plan(found, STAGES, Store(tmp_path))
    keys = {line.name: line.key for line in plan.stages}
    assert len(plan.inputs) >= 9
    for stage in STAGES:
        if stage.name not in plan.inputs:
            continue
        inputs = plan.inputs[stage.name]
        dumped = inputs.model_dump(mode="json")
        assert canonical_json(inputs) == plain(dumped), stage.name
        if stage.name == "build":
            dumped["sealed_sources"] = []
        if stage.name == "evaluate":
            dumped["pace"] = Pace().model_dump(mode="json")
        whole = {"stage": stage.name, "revision": stage.revision, "inputs": dumped}
        assert keys[stage.name] == hashlib.sha256(plain(whole)).hexdigest(), stage.name
    assert (
        content_key(found.lock)
        == hashlib.sha256(plain(found.lock.model_dump(mode="json"))).hexdigest()
    )


def test_what_is_held_is_written_as_its_holder_dumps_it() -> None:
    chip = Chip(name="a", cores={"z": 1, "b": 2})
    for board in (
        Board(zone="1", chip=chip, maker="ü\n\udcff"),
        Board(zone="2", chip=chip, spare=chip, others=(chip, chip)),
        # More fields than the declared type has: they do not count.
        Board(zone="3", chip=BigChip(name="b")),
    ):
        dumped = board.model_dump(mode="json", warnings=False)
        assert canonical_json(board) == plain(dumped)
        named = {"z": board, "a": 1, "board": {"c": board}}
        assert canonical_json(named) == plain({"z": dumped, "a": 1, "board": {"c": dumped}})


def test_a_copy_with_another_value_has_another_key() -> None:
    board = Board(zone="1", chip=Chip(name="a"))
    first = content_key(board)
    assert content_key(board) == first
    changed = board.model_copy(update={"chip": board.chip.model_copy(update={"name": "b"})})
    assert content_key(changed) != first
    assert canonical_json(changed) == plain(changed.model_dump(mode="json"))


def test_a_class_that_dumps_in_a_way_of_its_own_is_dumped_so() -> None:
    class Terse(Frozen):
        chip: Chip

        @field_serializer("chip")
        def _name_alone(self, chip: Chip) -> str:
            return chip.name

    class Renamed(Frozen):
        chip: Chip

        @model_serializer(mode="wrap")
        def _renamed(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
            return {"part": dump(self)["chip"]}

    assert canonical_json(Terse(chip=Chip(name="a"))) == b'{"chip":"a"}'
    assert canonical_json(Renamed(chip=Chip(name="a"))) == b'{"part":{"cores":{},"name":"a"}}'


def test_many_objects_do_not_get_each_others_keys() -> None:
    """Ids are given again when an object is gone; what was remembered must not be."""
    for number in range(2000):
        board = Board(zone="1", chip=Chip(name=str(number)))
        assert json.loads(canonical_json(board))["chip"]["name"] == str(number)
        assert content_key(board) == hashlib.sha256(canonical_json(board)).hexdigest()


def test_threads_that_use_a_class_for_the_first_time_at_once_all_get_it() -> None:
    """Its validator is built then; none of them may see half of it, or that of its base."""
    for number in range(40):
        inner = create_model(f"Inner{number}", __base__=Frozen, value=(int, 1))
        outer = create_model(f"Outer{number}", __base__=Frozen, inner=(inner, ...), name=(str, ""))
        ready = threading.Barrier(8)

        def use(kind: type[Frozen] = outer, ready: threading.Barrier = ready) -> str:
            ready.wait()
            with pytest.raises(ValidationError):
                kind.model_validate({"inner": {"value": "x"}})
            return kind.model_validate({"inner": {"value": 7}, "name": "a"}).model_dump_json()

        with ThreadPoolExecutor(8) as pool:
            found = [one.result() for one in [pool.submit(use) for _ in range(8)]]
        assert set(found) == {'{"inner":{"value":7},"name":"a"}'}
