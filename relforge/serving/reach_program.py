"""What runs inside a node's container to see whether the nodes reach each other.

It is sent as text to a Python of any version from 3.7 on, and uses nothing of relforge:

    listen WORD [HOST PORT]...    listens there (port 0: a free one), prints the ports or why not
    ask ADDRESS PORT WORD ...     says for each whether the one who listens there says WORD

Both print one line of JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

TIMEOUT_S = 5.0


def listen(word: str, places: list[tuple[str, int]]) -> None:
    found: list[dict[str, object]] = []
    sockets = []
    for host, port in places:
        try:
            listener = _listener(host, port)
        except OSError as error:
            found.append({"error": _shown(error)})
        else:
            sockets.append(listener)
            found.append({"port": listener.getsockname()[1]})
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    for listener in sockets:
        threading.Thread(target=_answer, args=(listener, word.encode())).start()
    threading.Event().wait()


def _listener(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    # What a server left behind that has just ended does not count.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(64)
    return listener


def _answer(listener: socket.socket, word: bytes) -> None:
    while True:
        asker, _ = listener.accept()
        with asker:
            asker.settimeout(TIMEOUT_S)
            try:
                asker.sendall(word + b"\n")
                asker.recv(1)  # who closes first keeps the port for a while: that is the asker
            except OSError:
                continue


def ask(targets: list[tuple[str, int, str]]) -> None:
    with ThreadPoolExecutor(max(1, len(targets))) as pool:
        answers = list(pool.map(lambda target: asked(*target), targets))
    sys.stdout.write(json.dumps(answers) + "\n")


def asked(address: str, port: int, word: str) -> str | None:
    """Why it is not reached; None when it is."""
    try:
        connection = socket.create_connection((address, port), timeout=TIMEOUT_S)
    except OSError as error:
        return _shown(error)
    said = b""
    with connection:
        try:
            while len(said) <= len(word) and not said.endswith(b"\n"):
                part = connection.recv(1024)
                if not part:
                    break
                said += part
        except OSError:
            pass  # whoever it is says nothing, or not this
    return None if said == word.encode() + b"\n" else "something else listens there"


def _shown(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def main(words: list[str]) -> None:
    if words[0] == "listen":
        listen(words[1], [(h, int(p)) for h, p in zip(words[2::2], words[3::2])])  # noqa: B905
    else:
        ask([(a, int(p), w) for a, p, w in zip(words[1::3], words[2::3], words[3::3])])  # noqa: B905


if __name__ == "__main__":
    main(sys.argv[1:])
