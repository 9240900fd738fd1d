"""The content-addressed result store that all releases share. A run only refers to it.

Layout below ``<home>/store``: ``results/<stage>/<key>.json`` holds a stage's frozen result with
the inputs that its key was made of; ``blobs/<aa>/<sha256>`` holds evidence; ``latest/`` remembers
per release which keys it used last, so that a plan can say what changed.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relforge.files import Output, altered, sha256_file, stamp, write_atomic
from relforge.frozen import Frozen, sha256_hex
from relforge.stage import StageResult


class Record(Frozen):
    """One stage result on disk."""

    stage: str
    key: str
    inputs: dict[str, Any]
    result: dict[str, Any]
    seconds: float
    created_s: float
    run_id: str


class Miss(Frozen):
    """Why a result cannot be reused."""

    because: str


class Store:
    """Reads and writes results; every write is atomic and durable."""

    def __init__(self, home: Path) -> None:
        self.root = home / "store"

    def _result_path(self, stage: str, key: str) -> Path:
        return self.root / "results" / stage / f"{key}.json"

    def lookup(self, stage: str, key: str) -> Record | Miss:
        """The record for a key, if its outputs are still there unaltered."""
        try:
            # Not through Path: a plan asks for every stage of every release.
            with open(f"{self.root}/results/{stage}/{key}.json", "rb") as file:  # noqa: PTH123
                record = Record.model_validate_json(file.read())
        except FileNotFoundError:
            return Miss(because="no result yet")
        except (OSError, ValidationError):
            return Miss(because="its record is damaged")
        for raw in record.result.get("outputs", ()):
            if (fault := altered(Output.model_validate(raw))) is not None:
                return Miss(because=fault)
        return record

    def save(
        self,
        *,
        stage: str,
        key: str,
        inputs: Frozen,
        result: StageResult,
        seconds: float,
        run_id: str,
    ) -> Record:
        """Writes a result; it counts from the moment this returns."""
        record = Record(
            stage=stage,
            key=key,
            inputs=inputs.model_dump(mode="json"),
            result=result.model_dump(mode="json"),
            seconds=seconds,
            created_s=time.time(),
            run_id=run_id,
        )
        write_atomic(self._result_path(stage, key), record.model_dump_json(indent=1).encode())
        return record

    def put_blob(self, data: bytes) -> Output:
        """Stores evidence by its hash and returns its stamp."""
        digest = sha256_hex(data)
        path = self.root / "blobs" / digest[:2] / digest
        if not path.exists() or sha256_file(path) != digest:
            write_atomic(path, data, mode=0o444)
        return stamp(path, sha256=digest)

    def folder(self, stage: str, key: str) -> Path:
        """Where a stage keeps outputs that are whole folders."""
        return self.root / "outputs" / stage / key[:32]

    def remember(self, release: str, keys: dict[str, str]) -> None:
        """Notes which keys a release used, for the next plan's explanation."""
        known = self.remembered(release) | keys
        write_atomic(self.root / "latest" / f"{release}.json", json.dumps(known, indent=1).encode())

    def remembered(self, release: str) -> dict[str, str]:
        """The keys that the release used last; empty when it never ran."""
        try:
            loaded = json.loads((self.root / "latest" / f"{release}.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return {str(k): str(v) for k, v in loaded.items()} if isinstance(loaded, dict) else {}

    def inputs_of(self, stage: str, key: str) -> dict[str, Any] | None:
        """The inputs behind an earlier key, if its record is still there."""
        try:
            raw = self._result_path(stage, key).read_bytes()
            return Record.model_validate_json(raw).inputs
        except (OSError, ValidationError):
            return None
