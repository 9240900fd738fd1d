"""What `relforge card test` ended with, as its tests read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

START = ("-c", "from relforge.cli import main; main()", "card", "test")
"""The words after the interpreter."""


@dataclass(frozen=True)
class Tried:
    code: int
    stdout: str
    stderr: str

    @property
    def report(self) -> Any:
        return json.loads(self.stdout)

    @property
    def verdicts(self) -> list[str]:
        return [step["verdict"] for step in self.report["steps"]]

    def step(self, number: int) -> Any:
        return self.report["steps"][number - 1]

    def reason(self, number: int) -> str:
        return str(self.step(number)["reason"])
