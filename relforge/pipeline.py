"""The product in one list: what happens to a release, in this order.

manifest → lock → plan → these stages → release record. A stage that a release does not need, or
that is not built yet, is skipped with a typed reason; nothing is left out silently.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from relforge.stage import Stage


class _Deferred:
    """A stage of which more than the name is loaded where somebody asks for it.

    So a run that ends early loads neither evaluation nor cards. Class and module have the stage's
    name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._loaded: Stage[Any, Any] | None = None

    def __getattr__(self, attribute: str) -> Any:
        if self._loaded is None:
            self._loaded = stage_of(self.name)
        return getattr(self._loaded, attribute)

    def __reduce__(self) -> tuple[Callable[[str], Stage[Any, Any]], tuple[str]]:
        return stage_of, (self.name,)


def stage_of(name: str) -> Stage[Any, Any]:
    """The stage of that name, loaded."""
    kind = getattr(import_module(f"relforge.stages.{name}"), name.capitalize())
    stage = kind()
    assert isinstance(stage, Stage)
    return stage


STAGES: tuple[Stage[Any, Any], ...] = tuple(
    cast("Stage[Any, Any]", _Deferred(name))
    for name in (
        "preflight",  # cheap looks at this host, before anything expensive
        "weights",  # the model's files, every one hashed
        "sources",  # upstream trees and wheels at their pins
        "unpatch",  # patch sets applied, opened where they are sealed; ends in the expected tree
        "render",  # the Dockerfile, as a file a person can read
        "build",  # one OCI image layout; its digest is the release's identity from here on
        "smoke",  # that digest serves, and says what the reference says
        "evaluate",  # that digest answers as well as the reference
        "bench",  # how fast it serves
        "coverage",  # which operators its forward pass dispatches, and whose kernels run
        "sbom",  # what is in it
        "scan",  # what must not be in it
        "attest",  # who says so
        "card",  # the model card, from evidence alone
        "publish",  # copies what was tested; builds nothing
    )
)
