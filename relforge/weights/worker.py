"""The child process that talks to a hub: ``python -m relforge.weights.worker``, asked on stdin.

The hubs' client libraries keep state of their own (tokens, caches, progress bars, retries that
cannot be stopped); all of that stays in here and ends with the process. The request is one JSON
object with the fields of Request; it carries the token, which must reach neither an argument list
nor the environment. The answer is one JSON object on stdout: ``{"files": [...]}`` for ``look``,
``{"revision": ...}`` for ``revision``, ``{}`` for ``fetch``, or ``{"error": {"kind", "text"}}``
with a kind of HubFault's.

Only the standard library is imported up here, so that a missing extra can still be reported.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

from relforge.weights.asking import HubFault, Request

_TELL_EVERY_S = 10.0
_LIBRARIES = {
    "huggingface": "relforge.weights.huggingface",
    "modelscope": "relforge.weights.modelscope",
}


def main() -> int:
    """Answers one request; returns the exit status."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    request = Request(**json.load(sys.stdin))
    try:
        answer = _answer(request)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        fault = _fault(error, request.hub)
        if fault.kind == "broken":
            traceback.print_exc()
        answer = {"error": {"kind": fault.kind, "text": str(fault)}}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    return 1 if "error" in answer else 0


def _answer(request: Request) -> dict[str, Any]:
    library = importlib.import_module(_LIBRARIES[request.hub])
    if request.action == "look":
        return {"files": library.look(request)}
    if request.action == "revision":
        return {"revision": library.revision(request)}
    request.target.parent.mkdir(parents=True, exist_ok=True)
    with _telling(request):
        library.fetch(request)
    return {}


def _fault(error: Exception, hub: str) -> HubFault:
    if isinstance(error, HubFault):
        return error
    text = str(error).strip() or type(error).__name__
    if isinstance(error, ImportError):
        return HubFault("missing-extra", text)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return HubFault("disk", text)
    library = importlib.import_module(_LIBRARIES[hub])
    return HubFault(library.kind_of(error), text)


@contextlib.contextmanager
def _telling(request: Request) -> Iterator[None]:
    """Says on stderr how far the file is, now and then."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(_TELL_EVERY_S):
            with contextlib.suppress(OSError):
                got = request.partial.stat().st_size / 1e6
                sys.stderr.write(
                    f"{request.path}: {got:.0f} of {request.size_bytes / 1e6:.0f} MB\n"
                )
                sys.stderr.flush()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


if __name__ == "__main__":
    sys.exit(main())
