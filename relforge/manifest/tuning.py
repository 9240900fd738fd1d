"""How single operators of a release are disabled: the ``tuning`` section of its manifest."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints, model_validator

from relforge.frozen import Frozen
from relforge.manifest.common import EnvName, Line, Name, Seconds
from relforge.manifest.facts import Source

Operator = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*$", max_length=200)]
"""As FlagGems or the server calls it."""


class Tuning(Frozen):
    """What tells the server which operators not to use, and which there are.

    Either ``variable`` of the server's environment or ``argument`` of its command line takes their
    names; what ``serve`` sets there stays disabled. ``operators`` lists all that could be, or
    ``list_command`` prints them, one a line, in the image with the device.
    """

    variable: EnvName | None = None
    """Of the server's environment."""
    argument: Name | None = None
    """Of the server's command line, without the dashes."""
    separator: Annotated[str, StringConstraints(pattern=r"^[^\w{}\x00-\x1f\x7f]+$")] = ","
    """Between two names."""
    operators: tuple[Operator, ...] = ()
    """All that could be disabled."""
    list_command: tuple[Line, ...] = ()
    """Prints them, run in the image."""
    list_timeout_s: Seconds = 300.0
    """How long it may take."""
    suspects: tuple[Operator, ...] = ()
    """Tried first: where disabling them is enough, all others are cleared at once."""
    source: Source
    """Where it is written that the server takes it so."""

    @model_validator(mode="after")
    def _consistent(self) -> Tuning:
        if (self.variable is None) == (self.argument is None):
            raise ValueError("name either variable or argument: one of them takes the list")
        if self.operators and self.list_command:
            raise ValueError("operators and list_command say the same thing; keep one of them")
        if len(set(self.operators)) != len(self.operators):
            raise ValueError("operators names one twice")
        if self.operators and (unknown := sorted(set(self.suspects) - set(self.operators))):
            raise ValueError(f"suspects are none of the operators: {', '.join(unknown)}")
        return self
