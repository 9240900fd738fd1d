"""Docker hosts behind ``ssh://``, reached with the system's own ssh client.

Docker's client does the same (docker/cli, cli/connhelper): every connection to the engine is one
``ssh HOST docker system dial-stdio``. Keys, jump hosts and known hosts are those of the user's ssh
configuration. The library that starts containers sees an ordinary socket.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docker import DockerClient

from relforge import leftovers, redact

_FOLDER = "relforge-ssh"
_CONNECT_TIMEOUT_S = 10
_ENDING_S = 5.0
_LAST_LINES = 3


def ssh_argv(host: str, *command: str) -> tuple[str, ...]:
    """A docker command on the far side of ``ssh://...``.

    Nobody is asked for a password: a launch opens several connections.
    """
    parts = urlsplit(host)
    words = ["ssh", "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_TIMEOUT_S}"]
    if parts.username:
        words += ["-l", parts.username]
    if parts.port:
        words += ["-p", str(parts.port)]
    engine = ("--host", f"unix://{parts.path}") if parts.path.strip("/") else ()
    # The far side's shell takes the words apart again.
    return (*words, "--", parts.hostname or "", shlex.join(("docker", *engine, *command)))


def through_ssh(host: str, *, timeout_s: float) -> DockerClient:
    """A client of the engine at ``ssh://...``, which has answered; the caller closes it.

    Raises OSError with what ssh said, and whatever the SDK raises where ssh said nothing.
    """
    relay = Relay(host)
    try:
        client = RelayedClient(relay, timeout=timeout_s)
        client.ping()
    except BaseException as error:
        said = relay.said
        relay.close()
        if said and isinstance(error, Exception):
            raise ConnectionError(said) from error
        raise
    return client


class Relay:
    """A socket of this machine that leads to the engine at ``ssh://...`` until it is closed."""

    def __init__(self, host: str) -> None:
        """Raises OSError when the socket cannot be made; ssh starts with the first connection."""
        if shutil.which("ssh") is None:
            raise FileNotFoundError("the program ssh was not found: install openssh-client")
        _sweep()
        self._argv = ssh_argv(host, "system", "dial-stdio")
        self._folder = contextlib.ExitStack()
        folder = self._folder.enter_context(
            leftovers.owned_folder(Path(tempfile.gettempdir()), _FOLDER)
        )
        self.address = f"unix://{folder / 'docker.sock'}"
        self._said = folder / "ssh.log"
        self._children: list[subprocess.Popen[bytes]] = []
        self._listener = self._folder.enter_context(socket.socket(socket.AF_UNIX))
        try:
            self._listener.bind(str(folder / "docker.sock"))
            self._listener.listen()
        except OSError:
            self._folder.close()
            raise
        self._thread = threading.Thread(target=self._accept, name=f"ssh {host}", daemon=True)
        self._thread.start()

    @property
    def said(self) -> str:
        """The last lines that ssh, or the far side's docker, wrote to stderr."""
        with contextlib.suppress(OSError):
            lines = self._said.read_text("utf-8", "replace").strip().splitlines()
            return redact.text("\n".join(lines[-_LAST_LINES:]))
        return ""

    def close(self) -> None:
        """Ends all connections; called once."""
        # Closing alone would not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for child in self._children:
            child.terminate()
        for child in self._children:
            try:
                child.wait(_ENDING_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._folder.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            with connection, self._said.open("ab") as said:
                self._children = [child for child in self._children if child.poll() is None]
                # A session of its own: Ctrl-C must not cut the connection that removes containers.
                # When relforge is killed its end of the socket closes, and ssh ends by that.
                self._children.append(
                    subprocess.Popen(
                        self._argv,
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=said,
                        start_new_session=True,
                    )
                )


class RelayedClient(DockerClient):
    """A client of the SDK whose relay is closed with it."""

    def __init__(self, relay: Relay, **settings: Any) -> None:
        self._relay = relay
        super().__init__(base_url=relay.address, **settings)

    def close(self) -> None:
        super().close()
        self._relay.close()


def _sweep() -> None:
    """Removes the sockets that killed processes left."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER}-*"):
        with leftovers.left_behind(path) as gone:
            if gone:
                leftovers.remove(path)
