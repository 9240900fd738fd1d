"""What adapters share: other tools' files read as far as they are needed, faults at their line."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.places import Keys, place


class Foreign(BaseModel):
    """Part of a file of another tool; what is not named here may be there, and changes nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


Wanted = Callable[[str], bool]
"""Whether the figure of a task is asked for; of others nothing is refused."""
ForeignT = TypeVar("ForeignT", bound=Foreign)


def validated(model: type[ForeignT], content: Any, path: Path, tool: str) -> ForeignT:
    """The parts of a file that an adapter needs. Raises RelforgeError (USAGE) at their line."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise refused(
            path, fault["loc"], f"the file is not as {tool} writes it", f"{name}: {fault['msg']}"
        ) from error


def fraction(value: object, path: Path, keys: Keys, *, digits: int | None = None) -> Decimal:
    """A score that is a fraction, in percent; ``digits`` after the point where it was rounded.

    Raises RelforgeError (USAGE) at its line for what is no finite number.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(float(str(value))):
        raise refused(path, keys, f"{keys[-1]} is no number", f"found {value!r}")
    # Binary fractions end somewhere behind the fifteenth digit; ten are more than any n needs.
    return 100 * round(Decimal(str(value)), 10 if digits is None else digits)


def refused(path: Path, keys: Keys, what: str, why: str) -> RelforgeError:
    """The fault of a value in a file, at its line."""
    return RelforgeError(
        what,
        code=ExitCode.USAGE,
        where=place(path, keys),
        why=why,
        hint="run the evaluation again to its end, or leave the task out with --task",
    )
