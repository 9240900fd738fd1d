"""The command that carries a connection to an engine behind ``ssh://``."""

from __future__ import annotations

import pytest

from relforge.engine.client import connect
from relforge.engine.ssh import ssh_argv
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite

OPTIONS = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("ssh://far", ("--", "far", "docker version")),
        ("ssh://ops@far:2222", ("-l", "ops", "-p", "2222", "--", "far", "docker version")),
        ("ssh://[fe80::1]/", ("--", "fe80::1", "docker version")),
        (
            "ssh://far/run/user/1000/my docker.sock",
            ("--", "far", "docker --host 'unix:///run/user/1000/my docker.sock' version"),
        ),
        # What looks like an option is a host's name, whatever it says.
        ("ssh://-oProxyCommand=touch", ("--", "-oproxycommand=touch", "docker version")),
    ],
)
def test_the_command(host: str, words: tuple[str, ...]) -> None:
    assert ssh_argv(host, "version") == (*OPTIONS, *words)


def test_without_ssh_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RelforgeError, match="does not answer") as caught:
        connect(EngineSite(host="ssh://far"))
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert caught.value.where == "ssh://far"
    assert caught.value.why == "the program ssh was not found: install openssh-client"
