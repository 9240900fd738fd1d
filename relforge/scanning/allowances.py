"""What looks like a hit in every image and is none, with the reason; the report lists each use."""

from __future__ import annotations

from relforge.frozen import Frozen
from relforge.scanning.hits import Kind


class Allowance(Frozen):
    """Files (``fnmatch`` on the path in the image) that may hold something of these kinds."""

    kinds: frozenset[Kind]
    path: str
    reason: str


_KEYS: frozenset[Kind] = frozenset({"private-key"})
_TESTS = "a key of a package's own test suite, which is published with the package"
_SELF_TEST = "a key that the library uses to test itself"

BUILT_IN = (
    *(
        Allowance(kinds=_KEYS, path=path, reason=_TESTS)
        for path in (
            "*/site-packages/*/tests/*", "*/site-packages/*/test/*", "*/site-packages/tests/*",
            "*/dist-packages/*/tests/*", "*/dist-packages/*/test/*", "*/lib/python3*/test/*",
        )
    ),
    Allowance(kinds=_KEYS, path="*/site-packages/Crypto*/SelfTest/*", reason=_TESTS),
    Allowance(kinds=_KEYS, path="*/libgnutls.so.*", reason=_SELF_TEST),
    Allowance(
        kinds=frozenset({"secret"}),
        path="*/site-packages/transformers/testing_utils.*",
        reason="the public token of a test user of the hub's staging site",
    ),
    Allowance(
        kinds=frozenset({"secret"}),
        path="*/site-packages/transformers/__pycache__/testing_utils.*",
        reason="the public token of a test user of the hub's staging site",
    ),
)  # fmt: skip
