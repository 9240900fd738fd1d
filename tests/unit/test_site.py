"""The site configuration: what it refuses, and how it says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite, ProxySite, RegistryMirror, Site
from relforge.manifest.site_file import load_site
from relforge.network import Proxy, ca_bundle, child_environment

PASSWORD = "s3cret-of-the-proxy"


def refused(tmp_path: Path, text: str) -> str:
    file = tmp_path / "site.yaml"
    file.write_text(f"kind: site\n{text}")
    with pytest.raises(RelforgeError) as caught:
        load_site(file)
    assert caught.value.code is ExitCode.USAGE
    assert (caught.value.where or "").startswith(f"{file}:2:")
    return str(caught.value)


def test_a_password_in_a_proxys_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for address in (
        f"http://me:{PASSWORD}@proxy.example:3128",
        f"http://me:a/{PASSWORD}@proxy.example",
    ):
        text = refused(tmp_path, f'proxy: {{http: "{address}"}}\n')
        assert PASSWORD not in text
        assert "proxy.example" in text
    assert "`password_file`" in refused(tmp_path, 'proxy: {https: "http://me:pw1234@p:1"}\n')


def test_a_password_in_a_mirrors_address_is_not_repeated_either(tmp_path: Path) -> None:
    mirror = f'[{{prefix: "https://git.example/", to: "https://me:{PASSWORD}@m.example/"}}]'
    assert PASSWORD not in refused(tmp_path, f"git_mirrors: {mirror}\n")


@pytest.mark.parametrize(
    ("proxy", "what"),
    [
        ("{}", "name `http`, `https` or both"),
        ("{http: 'proxy.example:3128'}", "should match pattern"),
        ("{http: 'socks5://proxy.example'}", "should match pattern"),
        ("{http: 'http://p', user: me}", "go together"),
        ("{http: 'http://p', password_file: pw}", "go together"),
        ("{http: 'http://p', no_proxy: [10.0.0.0/8]}", "not understood by every program"),
        ("{http: 'http://p', no_proxy: ['*.example']}", "not understood by every program"),
        ("{http: 'http://p', no_proxy: ['host:80']}", "not understood by every program"),
        ("{http: 'http://p', no_proxy: ['a,b']}", "not understood by every program"),
    ],
)
def test_a_proxy_that_cannot_work_everywhere_is_refused(
    tmp_path: Path, proxy: str, what: str
) -> None:
    assert what in refused(tmp_path, f"proxy: {proxy}\n")


@pytest.mark.parametrize(
    ("mirror", "what"),
    [
        ("{prefix: docker.io/, to: 'https://mirror.example/x/'}", "should match pattern"),
        ("{prefix: docker.io/, to: 'me:pw1234@mirror.example/x/'}", "should match pattern"),
        ("{prefix: docker.io, to: mirror.example/x}", "should match pattern"),
        ("{prefix: library/, to: mirror.example/x/}", "docker.io/library/ for Docker Hub"),
        ("{prefix: docker.io/, to: mirror.example/x}", "both end with a slash"),
    ],
)
def test_a_registry_mirror_that_names_nothing_is_refused(
    tmp_path: Path, mirror: str, what: str
) -> None:
    assert what in refused(tmp_path, f"registry_mirrors: [{mirror}]\n")


def test_hosts_with_a_port_or_an_address_are_registries() -> None:
    for to in ("127.0.0.1:5000/hub/", "[::1]:5000/", "localhost/x/", "mirror/x/"):
        assert RegistryMirror(prefix="docker.io/", to=to).to == to


def test_jobs_are_at_least_one(tmp_path: Path) -> None:
    assert "greater than or equal to 1" in refused(tmp_path, "build: {max_jobs: 0}\n")


def test_what_is_reached_without_the_proxy() -> None:
    proxy = Proxy.of(
        Site(
            proxy=ProxySite(
                http="http://p:1", https="http://p:2/", no_proxy=(".Example.COM", "10.0.0.7", "::2")
            ),
            engine=EngineSite(host="tcp://engine.example:2375"),
        )
    )
    assert proxy is not None
    both = {"http": "http://p:1", "https": "http://p:2"}
    for url in ("http://far.invalid/x", "https://example.org/", "http://10.0.0.70/"):
        assert proxy.for_url(url) == both, url
    for url in (
        "http://example.com/x", "https://git.example.com:8443/", "http://10.0.0.7/", "http://[::2]/",
        "http://localhost:1/", "https://127.0.0.1/", "http://[::1]:9/",
    ):  # fmt: skip
        assert proxy.for_url(url) == {}, url
    env = proxy.environment()
    assert env["no_proxy"] == "example.com,10.0.0.7,::2,localhost,127.0.0.1,::1,engine.example"
    assert env["NO_PROXY"] == env["no_proxy"]
    assert (env["http_proxy"], env["HTTPS_PROXY"]) == ("http://p:1", "http://p:2")
    # Nothing of the environment's own proxy stays in force beside the site's.
    assert env["all_proxy"] == env["ALL_PROXY"] == ""


def test_the_password_is_read_from_its_file_and_redacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redact, "_secrets", set())
    (tmp_path / "password").write_text(f"{PASSWORD}/+\nsecond line\n")
    file = tmp_path / "site.yaml"
    file.write_text(
        "kind: site\nproxy: {http: 'http://p:1', user: 'a user', password_file: password}\n"
    )
    site = load_site(file)
    proxy = Proxy.of(site)
    assert proxy is not None
    login = f"a%20user:{PASSWORD}%2F%2B"
    assert proxy.http == f"http://{login}@p:1"
    assert PASSWORD not in repr(proxy) + site.model_dump_json()
    for text in (proxy.http, f"told {PASSWORD}/+ here", f"a user:{PASSWORD}/+"):
        assert PASSWORD not in redact.text(text)
    (tmp_path / "password").write_text("\n")
    with pytest.raises(RelforgeError, match="password cannot be read") as caught:
        Proxy.of(site)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert caught.value.where == str(tmp_path / "password")
    assert str(file) in (caught.value.hint or "")


def test_the_sites_certificates_count_beside_the_usual_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, extra = tmp_path / "usual.pem", tmp_path / "extra.pem"
    usual.write_text("-----BEGIN CERTIFICATE-----\nusual\n")
    extra.write_text("-----BEGIN CERTIFICATE-----\nextra\n")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(usual))
    bundle = ca_bundle(extra, tmp_path)
    assert "usual" in bundle.read_text()
    assert "extra" in bundle.read_text()
    bundle.unlink()
    # Without a variable: the system's, whatever Python's own default names.
    monkeypatch.delenv("SSL_CERT_FILE")
    assert len(ca_bundle(extra, tmp_path).read_bytes()) > 10_000
    (tmp_path / "no.pem").write_text("not PEM")
    (tmp_path / "empty").mkdir()
    for wrong in ("no.pem", "gone.pem"):
        with pytest.raises(RelforgeError, match="certificates cannot be read") as caught:
            child_environment(Site(extra_ca=tmp_path / wrong), tmp_path / "empty")
        assert caught.value.where == str(tmp_path / wrong)
        assert "extra_ca" in (caught.value.hint or "")


def test_the_documented_site_is_a_site(tmp_path: Path) -> None:
    """Whoever copies it from docs/manifests.md gets what stands there."""
    text = (Path(__file__).parents[2] / "docs" / "manifests.md").read_text()
    (block,) = re.findall(r"```yaml\n(kind: site\n.*?)```", text, re.DOTALL)
    (tmp_path / "site.yaml").write_text(block)
    site = load_site(tmp_path / "site.yaml")
    assert site.proxy is not None
    assert site.proxy.password_file == tmp_path / "keys" / "proxy.password"
    assert set(Site.model_fields) - set(yaml.safe_load(block)) <= {
        "key_passphrase_file", "min_free_disk_bytes"
    }  # fmt: skip
