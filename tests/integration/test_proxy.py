"""A site's proxy and certificates, with the real clients: pip, git, the hubs' libraries, wget.

Every host of these tests is known to the proxy alone, so whatever arrives has come through it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge import redact
from relforge.cli.dispatch import dispatch
from relforge.engine import rootfs
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.build import PythonPackages
from relforge.manifest.facts import BootstrapBase
from relforge.manifest.site import HubSite, HubsSite, ProxySite, PythonSite, Site
from relforge.manifest.source import ArchiveSource, GitSource
from relforge.network import child_environment
from relforge.sources import places
from relforge.sources.api import import_source
from relforge.sources.fetch import fetch_package
from relforge.sources.wheelhouse import download, resolve
from tests.fakes.hub import FakeHub, Repo
from tests.fakes.proxy import FakeProxy
from tests.support.sources import Index, Server, closed_port, git_server, repository, sdist, wheel
from tests.support.tls import self_signed
from tests.support.weights import REVISION, Toy, from_hub, model, result_of, run, served

HAS_HUB = "RELFORGE_ALL_TESTS" in os.environ or importlib.util.find_spec("modelscope_hub")
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
PASSWORD = "pass/of the:proxy"
DATA = sdist("tiny-1.0", {"f": b"1"})
FILES = {"config.json": b'{"a": 1}', "sub/part.safetensors": b"x" * 70_000}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_unreachable", {})
    monkeypatch.setattr(redact, "_secrets", set())
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "index.invalid files.invalid")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    # The site's proxy comes first: were this one asked, nothing would be had.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")


@pytest.fixture
def index() -> Iterator[Index]:
    made = Index()
    with made.server:
        yield made


def site_of(proxy: FakeProxy | str, **changes: object) -> Site:
    url = proxy if isinstance(proxy, str) else proxy.url
    values: dict[str, object] = {
        "proxy": ProxySite(http=url, https=url),
        "python": PythonSite(index_timeout_s=2.0),
    }
    return Site.model_validate({**values, **changes})


def with_password(proxy: FakeProxy, folder: Path) -> Site:
    """The site of a proxy that wants a login; the proxy looks for it in argument lists."""
    proxy.login = f"me:{PASSWORD}"
    proxy.secrets = (PASSWORD, "pass%2Fof%20the%3Aproxy")
    (folder / "password").write_text(f"{PASSWORD}\n")
    settings = ProxySite(
        http=proxy.url, https=proxy.url, user="me", password_file=folder / "password"
    )
    return site_of(proxy).model_copy(update={"proxy": settings})


def get(files: Path, sha256: str, site: Site) -> Path:
    spec = ArchiveSource(kind="archive", package="tiny", version="1.0", sha256=sha256)
    return fetch_package(spec, site=site, files=files, ctx_line=print)


def test_a_package_index(index: Index, tmp_path: Path) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", DATA)
    with FakeProxy({"index.invalid": index.server.port}) as proxy:
        assert get(tmp_path / "files", sha, with_password(proxy, tmp_path)).read_bytes() == DATA
    assert proxy.asked[-1] == "GET http://index.invalid/files/tiny/tiny-1.0.tar.gz"
    assert len(proxy.asked) == len(index.server.asked)


def test_an_index_over_https_with_a_certificate_of_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, context = self_signed(tmp_path, "index.invalid")
    index = Index(tls=context)
    index.add("app", "app-1-py3-none-any.whl", wheel("app", "1", requires=("below",)))
    index.add("below", "below-1-py3-none-any.whl", wheel("below", "1"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    monkeypatch.delenv("PIP_TRUSTED_HOST")
    packages = PythonPackages(requirements=("app",))
    with index.server, FakeProxy({"index.invalid:443": index.server.port}) as proxy:
        plain = with_password(proxy, tmp_path)
        with pytest.raises(RelforgeError) as caught:
            resolve(packages, python_version=HERE, site=plain, ctx_line=print)
        assert "certificate" in str(caught.value.why).lower()
        site = plain.model_copy(update={"extra_ca": certificate})
        locked = resolve(packages, python_version=HERE, site=site, ctx_line=print)
        assert [w.name for w in locked.wheels] == ["app", "below"]
        folder = download(locked, home=tmp_path / "home", site=site, ctx_line=print)
        assert (folder / "below-1-py3-none-any.whl").is_file()
    assert set(proxy.asked) == {"CONNECT index.invalid:443"}
    assert proxy.seen_in_argv == set()


def test_where_an_index_sends_us_decides_about_the_proxy(index: Index, tmp_path: Path) -> None:
    """An index of the house is reached directly, the files that it links to are not."""
    sha = index.add("tiny", "tiny-1.0.tar.gz", DATA)

    def moved(request: object) -> tuple[int, str, bytes]:
        path = str(getattr(request, "path", ""))
        if path.startswith("/simple/"):
            page = f'<a href="/go/tiny-1.0.tar.gz#sha256={sha}">tiny-1.0.tar.gz</a>'
            return 200, "text/html", page.encode()
        return 302, "http://files.invalid/files/tiny/tiny-1.0.tar.gz", b""

    with Server(moved) as house, FakeProxy({"files.invalid": index.server.port}) as proxy:
        links = f"{house.url}/simple/tiny/"
        site = site_of(proxy, python=PythonSite(index_timeout_s=2.0, find_links=(links,)))
        assert get(tmp_path, sha, site).read_bytes() == DATA
    assert proxy.asked == ["GET http://files.invalid/files/tiny/tiny-1.0.tar.gz"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_git(tmp_path: Path, scheme: str) -> None:
    certificate, context = self_signed(tmp_path, "git.invalid")
    commit = repository(tmp_path / "up" / "repo", {"a": b"1"})
    spec = GitSource(kind="git", url=f"{scheme}://git.invalid/repo/.git", commit=commit)
    tls = context if scheme == "https" else None
    with (
        git_server(tmp_path / "up", tls=tls) as server,
        FakeProxy({"git.invalid": server.port}) as proxy,
    ):
        site = with_password(proxy, tmp_path)
        if tls is not None:
            with pytest.raises(RelforgeError, match="could not be fetched") as caught:
                import_source("r", spec, home=tmp_path / "untrusting", site=site, ctx_line=print)
            assert "certificate" in str(caught.value.why)
            site = site.model_copy(update={"extra_ca": certificate})
        lines: list[str] = []
        taken = import_source("r", spec, home=tmp_path / "h", site=site, ctx_line=lines.append)
    assert taken.commit == commit
    assert proxy.asked
    assert proxy.seen_in_argv == set()
    assert not any(PASSWORD in line for line in lines)


@pytest.mark.skipif(not HAS_HUB, reason="extra 'hub' is not installed")
@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
def test_weights(tmp_path: Path, kind: str) -> None:
    certificate, context = self_signed(tmp_path, "hub.invalid")
    with (
        FakeHub({"o/m": Repo({REVISION: dict(FILES)})}, tls=context) as hub,
        FakeProxy({"hub.invalid:443": hub.port}) as proxy,
    ):
        one = HubSite(endpoint="https://hub.invalid")
        site = with_password(proxy, tmp_path).model_copy(
            update={"extra_ca": certificate, "hubs": HubsSite(huggingface=one, modelscope=one)}
        )
        made = Toy(model(from_hub(kind, FILES)), site, tmp_path)
        home = tmp_path / "home"
        assert served(result_of(run(home, made)[0])) == FILES
    assert set(proxy.asked) == {"CONNECT hub.invalid:443"}
    assert proxy.seen_in_argv == set()
    for path in home.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can bootstrap")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_debootstrap(tmp_path: Path, scheme: str) -> None:
    """The real one asks the mirror for its first file; there it ends, as the mirror is empty."""
    certificate, context = self_signed(tmp_path, "mirror.invalid")
    tls = context if scheme == "https" else None
    empty = Server(lambda _: (404, "text/plain", b""), tls=tls)
    spec = BootstrapBase(suite="bookworm")

    def bootstrap(site: Site, folder: str) -> None:
        work = tmp_path / folder
        work.mkdir()
        with pytest.raises(RelforgeError, match="could not be bootstrapped"):
            rootfs.bootstrap(
                spec, work / "root", architecture="amd64", mirror=f"{scheme}://mirror.invalid/x",
                environment=rootfs.environment(site, work), line=print, cancel=None,
            )  # fmt: skip

    with empty, FakeProxy({"mirror.invalid": empty.port}) as proxy:
        site = with_password(proxy, tmp_path)
        if tls is not None:
            bootstrap(site, "untrusting")
            assert empty.asked == []
            site = site.model_copy(update={"extra_ca": certificate})
        bootstrap(site, "trusting")
    assert "/x/dists/bookworm/InRelease" in empty.asked
    assert proxy.seen_in_argv == set()


def test_what_is_excepted_is_reached_directly(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = index.add("tiny", "tiny-1.0.tar.gz", DATA)
    # A name for this host that is none of those that never go through a proxy.
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.2:{index.server.port}/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "127.0.0.2")
    with FakeProxy({"127.0.0.2": index.server.port}) as proxy:
        site = site_of(proxy)
        assert get(tmp_path / "through", sha, site).is_file()
        assert len(proxy.asked) == 2
        assert site.proxy is not None
        direct = site.proxy.model_copy(update={"no_proxy": ("127.0.0.2",)})
        with pytest.raises(RelforgeError):  # the server listens on 127.0.0.1 alone
            get(tmp_path / "direct", sha, site.model_copy(update={"proxy": direct}))
        assert len(proxy.asked) == 2


def test_a_proxy_that_does_not_answer_is_what_is_told(index: Index, tmp_path: Path) -> None:
    gone = f"http://127.0.0.1:{closed_port()}"
    said = f"the proxy {gone} does not answer"
    site = site_of(gone)
    with pytest.raises(RelforgeError, match="was not found") as caught:
        get(tmp_path, "a" * 64, site)
    assert said in str(caught.value.why)
    assert "site configuration's proxy" in str(caught.value.hint)

    packages = PythonPackages(requirements=("app",))
    with pytest.raises(RelforgeError, match="cannot be resolved") as caught:
        resolve(packages, python_version=HERE, site=site, ctx_line=print)
    assert f"not asked: http://index.invalid/simple ({said}" in str(caught.value.hint)
    assert "site configuration's proxy" in str(caught.value.hint)

    spec = GitSource(kind="git", url="https://git.invalid/r.git", commit="1" * 40)
    with pytest.raises(RelforgeError, match="cannot be reached") as caught:
        import_source("r", spec, home=tmp_path / "h", site=site, ctx_line=print)
    assert caught.value.where == "https://git.invalid/r.git"
    assert said in str(caught.value.why)
    assert "site configuration's proxy" in str(caught.value.hint)


@pytest.mark.skipif(not HAS_HUB, reason="extra 'hub' is not installed")
@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
def test_a_proxy_that_does_not_answer_is_told_for_a_hub(tmp_path: Path, kind: str) -> None:
    gone = f"http://127.0.0.1:{closed_port()}"
    one = HubSite(endpoint="https://hub.invalid")
    site = site_of(gone, hubs=HubsSite(huggingface=one, modelscope=one))
    error = run(tmp_path / "home", Toy(model(from_hub(kind, FILES)), site, tmp_path))[0].error
    assert error is not None
    assert "does not answer" in error.what
    assert f"the proxy {gone} does not answer" in str(error.why)
    assert f"check the proxy {gone}" in str(error.hint)


def test_a_proxy_that_wants_a_login_is_what_is_told(tmp_path: Path) -> None:
    with FakeProxy({"index.invalid": 9, "git.invalid": 9}, login="me:right") as proxy:
        site = site_of(proxy)
        with pytest.raises(RelforgeError, match="was not found") as caught:
            get(tmp_path, "a" * 64, site)
        assert f"HTTP 407 who is there (through the proxy {proxy.url})" in str(caught.value.why)
        https = site.model_copy(
            update={"python": PythonSite(find_links=("https://index.invalid/links.html",))}
        )
        with pytest.raises(RelforgeError, match="was not found") as caught:
            get(tmp_path, "a" * 64, https)
        assert f"the proxy {proxy.url} does not let us in: Tunnel connection failed: 407" in str(
            caught.value.why
        )
        assert "site configuration's proxy" in str(caught.value.hint)
        for scheme in ("http", "https"):
            spec = GitSource(kind="git", url=f"{scheme}://git.invalid/r.git", commit="1" * 40)
            with pytest.raises(RelforgeError, match="the proxy does not let git through") as caught:
                import_source("r", spec, home=tmp_path / scheme, site=site, ctx_line=print)
            assert caught.value.code is ExitCode.SOURCE
            assert "site configuration's proxy" in str(caught.value.hint)


def test_children_get_what_the_site_says(tmp_path: Path) -> None:
    certificate, _ = self_signed(tmp_path)
    env = child_environment(site_of("http://p:1", extra_ca=certificate), tmp_path / "work")
    assert env["SSL_CERT_FILE"] == env["REQUESTS_CA_BUNDLE"] == str(tmp_path / "work" / "ca.pem")
    assert certificate.read_bytes() in (tmp_path / "work" / "ca.pem").read_bytes()
    assert env["HTTPS_PROXY"] == "http://p:1"
    assert child_environment(Site(), tmp_path) == {}


def doctor(site: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    dispatch("doctor", ["--site", str(site), "--json"])
    return {found["name"]: found for found in json.loads(capsys.readouterr().out)["findings"]}


def test_doctor_tells_what_does_not_answer_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _ = self_signed(tmp_path)
    gone, site = f"http://127.0.0.1:{closed_port()}", tmp_path / "site.yaml"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    (tmp_path / "password").write_text(PASSWORD)
    with Server(lambda _: (404, "text/plain", b"")) as server, FakeProxy() as proxy:
        login = {"user": "me", "password_file": "password"}
        settings: dict[str, object] = {
            "home": "home",
            "proxy": {"http": proxy.url, **login},
            "extra_ca": certificate.name,
            "git_mirrors": [{"prefix": "https://a/", "to": f"{server.url}/"}],
        }
        site.write_text(json.dumps(settings))
        found = doctor(site, capsys)
        assert found["proxy"]["found"] == f"{proxy.url} answers"
        assert found["extra CA"]["found"] == f"{certificate}, certificates: 1"
        assert (found["mirrors"]["state"], found["mirrors"]["found"]) == ("ok", "answering: 1")

        settings["registry_mirrors"] = [
            {"prefix": "docker.io/", "to": f"{gone.removeprefix('http://')}/x/"}
        ]
        settings["proxy"] = {"http": gone, **login}
        settings["apt_mirror"] = "http://mirror.invalid/debian"
        site.write_text(json.dumps(settings))
        found = doctor(site, capsys)
        assert found["proxy"]["state"] == "missing"
        assert gone in found["proxy"]["found"]
        assert "site configuration's proxy" in found["proxy"]["remedy"]
        silent = found["mirrors"]
        assert silent["state"] == "warning"
        assert f"https://{gone.removeprefix('http://')}/ (registry_mirrors)" in silent["found"]
        assert "mirror.invalid/debian (apt_mirror): the proxy" in silent["found"]
        assert str(site) in silent["remedy"]

    certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "password").unlink()
    found = doctor(site, capsys)
    assert found["extra CA"]["state"] == found["proxy's password"]["state"] == "missing"
    assert str(certificate) in found["extra CA"]["found"]
    assert found["proxy's password"]["found"].startswith(str(tmp_path / "password"))
    assert all(f["remedy"] for f in found.values() if f["state"] in ("missing", "warning"))
