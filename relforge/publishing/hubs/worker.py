"""The child process that writes to a hub: ``python -m relforge.publishing.hubs.worker``.

As for downloads (``relforge.weights.worker``) the libraries' state, logins and caches stay in here,
and a cancelled or killed run ends them whatever they are at. The request is one JSON object on
stdin with the fields of ``Ask``; it carries the token, which must reach neither an argument list
nor the environment. The answer is one JSON object, the last line of stdout; ``{"error": ...}`` has
the fields of ``Fault``.
"""

from __future__ import annotations

import errno
import importlib
import json
import re
import sys
import traceback
from dataclasses import asdict, replace
from typing import Any

from relforge.publishing.hubs.asking import Ask, Fault
from relforge.weights.asking import chain

_LIBRARIES = {
    "huggingface": "relforge.publishing.hubs.huggingface",
    "modelscope": "relforge.publishing.hubs.modelscope",
}
# Addresses for uploads are signed in their query: who has one can write there. Some messages have
# them without scheme and host.
_QUERY = re.compile(r"([\w/.~%-])\?[\w.~%-]+=[^\s'\")>]*")


def main() -> int:
    """Answers one request; returns the exit status."""
    answers = sys.stdout
    sys.stdout = sys.stderr = _WithoutQueries(sys.stderr)  # what a library prints is no answer
    ask = Ask(**json.load(sys.stdin))
    try:
        library = importlib.import_module(_LIBRARIES[ask.hub])
        answer: dict[str, Any] = library.ACTIONS[ask.action](ask)
        if ask.look is not None:
            seen = replace(ask, repository=ask.main_repository, arguments=ask.look)
            answer["looked"] = library.ACTIONS["look"](seen)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        fault = _fault(error, ask.hub)
        if fault.kind == "broken":
            traceback.print_exc()
        answer = {"error": asdict(fault)}
    answers.write("\n" + json.dumps(answer) + "\n")
    answers.flush()
    return 1 if "error" in answer else 0


def _fault(error: Exception, hub: str) -> Fault:
    if isinstance(error, Fault):
        found = error
    elif isinstance(error, ImportError):
        found = Fault("missing-extra", str(error))
    elif _is_disk(error):
        found = Fault("disk", str(error))
    else:
        found = importlib.import_module(_LIBRARIES[hub]).fault_of(error)
    text = _QUERY.sub(r"\1?...", found.text.strip()) or type(error).__name__
    return Fault(found.kind, " ".join(text.split())[:600], found.status, found.after_s)


def _is_disk(error: Exception) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return any(isinstance(one, OSError) and one.errno in full for one in chain(error))


class _WithoutQueries:
    """A text stream that leaves the queries of addresses out."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_QUERY.sub(r"\1?...", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


if __name__ == "__main__":
    sys.exit(main())
