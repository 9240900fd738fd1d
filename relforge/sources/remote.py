"""How git reaches a server: with the person's own logins, the site's proxy and certificates.

The person's git configuration counts here: it knows how to log in (credential helpers, ``.netrc``,
ssh). It decides nothing about content.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from relforge import redact
from relforge.addresses import hide_credentials
from relforge.gitio import Git
from relforge.manifest.site import Site
from relforge.network import Proxy, ca_bundle, proxies_for
from relforge.proc import Done
from relforge.sources.places import why_unreachable

# A transfer below this speed for a minute has died without saying so.
TRANSFER = {"http.lowSpeedLimit": "1000", "http.lowSpeedTime": "60"}
PROXY_REFUSED = re.compile(
    r"from proxy after connect|connect tunnel failed|returned error: 407|resolve proxy"
)


@contextmanager
def reaching(git: Git, place: str, site: Site) -> Iterator[dict[str, str]]:
    """The environment of a git that talks to *place*; what it names is there until the end.

    Raises RelforgeError (ENVIRONMENT) when a file that the site names cannot be read.
    """
    wait_s = max(1, round(site.python.index_timeout_s))
    ssh = f"ssh -o BatchMode=yes -o ConnectTimeout={wait_s}"
    env = {"GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", ssh)}
    with tempfile.TemporaryDirectory(prefix="relforge-git-") as folder:
        if is_local(place):
            # git checks who owns a local repository in a process of its own, which sees only files.
            config = Path(folder, "config")
            config.write_text("[safe]\n\tdirectory = *\n")
            env["GIT_CONFIG_GLOBAL"] = str(config)
        else:
            env["GIT_CONFIG_GLOBAL"] = personal_config()
            if site.extra_ca is not None:
                own = os.environ.get("GIT_SSL_CAINFO")
                usual = own or setting(git, "http.sslCAInfo", place, "--type=path")
                bundle = ca_bundle(site.extra_ca, Path(folder), usual=usual)
                env["GIT_SSL_CAINFO"] = str(bundle)
            if (proxy := Proxy.of(site)) is not None:
                env |= proxy.environment()
        yield env


def is_local(place: str) -> bool:
    """Whether it is a repository on this host's file system."""
    return urlsplit(place).scheme == "file" or place.startswith("/")


def personal_config() -> str:
    """The person's own git configuration."""
    named = os.environ.get("GIT_CONFIG_GLOBAL")
    return named if named is not None else str(Path("~/.gitconfig").expanduser())


def setting(git: Git, name: str, url: str, *kind: str) -> str | None:
    """What the person's own git configuration says for a URL."""
    personal = {"GIT_CONFIG_GLOBAL": personal_config()}
    asked = ("config", *kind, "--get-urlmatch", name, url)
    return git.run(*asked, check=False, env=personal).text or None


def real_url(git: Git, place: str) -> str:
    """What the person's own settings (``insteadOf``) make of a URL."""
    personal = {"GIT_CONFIG_GLOBAL": personal_config()}
    real = git.run("ls-remote", "--get-url", place, check=False, env=personal).text or place
    hide_credentials(real)
    return real


def proxies_of(git: Git, real: str, site: Site) -> dict[str, str]:
    """The proxies that git would use for a URL, by scheme."""
    if (own := setting(git, "http.proxy", real)) is not None:
        hide_credentials(own)
        return {"http": own, "https": own}
    return proxies_for(real, Proxy.of(site))


def why_not_reached(git: Git, real: str, site: Site) -> str | None:
    """Why the host does not answer, or None: git itself waits minutes for one that does not."""
    if is_local(real):
        return None
    return why_unreachable(real, site.python.index_timeout_s, proxies=proxies_of(git, real, site))


def reason(done: Done) -> str:
    """The last lines of a git that failed that say why."""
    rows = [
        row.rpartition("\r")[2]
        for row in redact.text(done.stderr.decode("utf-8", "replace")).splitlines()
    ]
    told = [row for row in rows if row.startswith(("fatal:", "error:", "remote: ERR"))]
    return "\n".join((told or rows)[-5:])


# The number stands alone: commits have it in their hashes now and then.
_NO_ACCESS = re.compile(
    r"authentication|could not read username|\b403\b|permission denied \(publickey"
)


def refuses_access(why: str) -> bool:
    """Whether the reason is that nobody logged in, or may not do this."""
    return _NO_ACCESS.search(why.lower()) is not None
