"""Logins, tokens and certificates, against Debian's docker-registry with each of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from relforge import redact
from relforge.errors import ExitCode, RelforgeError
from relforge.manifest.site import EngineSite, ProxySite, Site
from relforge.oci.copying import copy
from relforge.oci.layout_store import LayoutStore
from relforge.oci.reference import Repository
from relforge.oci.registry import RegistryStore
from relforge.retrying import RetryPolicy
from tests.fakes.proxy import FakeProxy
from tests.support.faulty_registry import Fault, FaultyRegistry
from tests.support.images import image
from tests.support.registries import PASSWORD, USER, RealRegistry, docker_registry, logged_in
from tests.support.tls import self_signed
from tests.support.token_server import SERVICE, TokenServer

FAST = RetryPolicy(attempts=2, first_wait_s=0.01, longest_wait_s=0.02)


def store(host: str, name: str, site: Site) -> RegistryStore:
    return RegistryStore(Repository.parse(f"{host}/{name}"), site=site, policy=FAST)


@pytest.fixture
def layout(tmp_path: Path) -> tuple[LayoutStore, str]:
    digest = image(tmp_path / "image", b"for those with a login")
    return LayoutStore(tmp_path / "image"), digest


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("locked"), login=True) as found:
        yield found


@pytest.fixture(autouse=True)
def nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return home


def test_with_dockers_own_login(
    locked: RealRegistry, layout: tuple[LayoutStore, str], tmp_path: Path
) -> None:
    site = logged_in(tmp_path / "docker", locked.host)
    dst = store(locked.host, "team/mine", site)
    copy(layout[0], dst, layout[1], tag="v1")
    assert dst.tags() == ("v1",)
    assert redact.text(f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}") == (
        "Basic [redacted]"
    )


@pytest.mark.parametrize("password", [None, "wrong-password-here"])
def test_without_the_right_login(
    locked: RealRegistry, layout: tuple[LayoutStore, str], tmp_path: Path, password: str | None
) -> None:
    site = Site()
    if password is not None:
        site = logged_in(tmp_path / "docker", locked.host, password=password)
    with pytest.raises(RelforgeError) as caught:
        copy(layout[0], store(locked.host, "team/theirs", site), layout[1], tag="v1")
    assert caught.value.code is ExitCode.PUBLISH
    assert (caught.value.why or "").startswith("it wants a login")
    assert f"docker login {locked.host}" in (caught.value.hint or "")
    assert "wrong-password" not in str(caught.value)


def test_a_credential_helper_is_asked(
    locked: RealRegistry,
    layout: tuple[LayoutStore, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    helper = programs / "docker-credential-relforge-test"
    said = json.dumps({"ServerURL": locked.host, "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\necho '{said}'\n")
    helper.chmod(0o755)
    folder = tmp_path / "docker"
    folder.mkdir()
    config = {"credHelpers": {locked.host: "relforge-test"}}
    (folder / "config.json").write_text(json.dumps(config))
    site = Site(engine=EngineSite(config_dir=folder))
    with pytest.raises(RelforgeError, match=r"the login for .* cannot be read") as caught:
        store(locked.host, "team/helped", site).tags()
    assert caught.value.code is ExitCode.ENVIRONMENT
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    copy(layout[0], store(locked.host, "team/helped", site), layout[1], tag="v1")


def test_the_users_login_counts_where_the_engines_folder_has_none(
    locked: RealRegistry, layout: tuple[LayoutStore, str], tmp_path: Path, nobodys_home: Path
) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "config.json").write_text('{"features": {}}')
    site = Site(engine=EngineSite(config_dir=tmp_path / "engine"))
    logged_in(nobodys_home / ".docker", locked.host)
    copy(layout[0], store(locked.host, "team/users", site), layout[1], tag="v1")
    # One with logins counts, even where it has none for this registry.
    logged_in(tmp_path / "engine", "another.example:5000")
    with pytest.raises(RelforgeError):
        store(locked.host, "team/users", site).tags()


def test_settings_that_cannot_be_read_are_told(locked: RealRegistry, tmp_path: Path) -> None:
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "config.json").write_text('{"auths": {"' + locked.host + '": {"auth": "bm9uZQ=="}}}')
    with pytest.raises(RelforgeError, match="cannot be read") as caught:
        store(locked.host, "team/x", Site(engine=EngineSite(config_dir=folder))).tags()
    assert caught.value.where == str(folder / "config.json")


def test_tls_with_a_ca_of_the_site_or_of_docker(
    layout: tuple[LayoutStore, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _ = self_signed(tmp_path)
    tls = (certificate, tmp_path / "key.pem")
    with docker_registry(tmp_path / "registry", tls=tls) as registry:
        monkeypatch.setattr("relforge.oci.connecting.CERTS_D", (tmp_path / "certs.d",))
        with pytest.raises(RelforgeError) as caught:
            store(registry.host, "team/tls", Site()).tags()
        assert "its certificate is not accepted" in (caught.value.why or "")
        assert "extra_ca" in (caught.value.hint or "")
        copy(layout[0], store(registry.host, "team/tls", Site(extra_ca=certificate)), layout[1])
        own = tmp_path / "certs.d" / registry.host
        own.mkdir(parents=True)
        (own / "ca.crt").write_bytes(certificate.read_bytes())
        copy(layout[0], store(registry.host, "team/tls", Site()), layout[1], tag="v1")
        assert registry.tags("team/tls") == ["v1"]


def test_through_the_sites_proxy(layout: tuple[LayoutStore, str], tmp_path: Path) -> None:
    certificate, _ = self_signed(tmp_path, "registry.invalid")
    with docker_registry(
        tmp_path / "registry", tls=(certificate, tmp_path / "key.pem")
    ) as registry:
        port = int(registry.host.rpartition(":")[2])
        with FakeProxy({"registry.invalid:443": port}) as proxy:
            site = Site(proxy=ProxySite(https=proxy.url), extra_ca=certificate)
            dst = store("registry.invalid", "team/proxied", site)
            copy(layout[0], dst, layout[1], tag="v1")
            assert dst.tags() == ("v1",)
            assert set(proxy.asked) == {"CONNECT registry.invalid:443"}


def test_plain_http_is_spoken_where_it_was_allowed_alone(
    layout: tuple[LayoutStore, str], tmp_path: Path
) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        port = int(registry.host.rpartition(":")[2])
        with FakeProxy({f"registry.invalid:{port}": port}) as proxy:
            site = Site(proxy=ProxySite(http=proxy.url, https=proxy.url))
            repository = Repository.parse(f"registry.invalid:{port}/team/plain")
            with pytest.raises(RelforgeError):
                RegistryStore(repository, site=site, policy=FAST).tags()
            assert {asked.split()[0] for asked in proxy.asked} == {"CONNECT"}
            plain = RegistryStore(repository, site=site, policy=FAST, plain_http=True)
            copy(layout[0], plain, layout[1], tag="v1")
            assert registry.tags("team/plain") == ["v1"]


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[TokenServer]:
    with TokenServer(tmp_path / "tokens") as found:
        yield found


def test_tokens_for_what_is_done(
    tokens: TokenServer, layout: tuple[LayoutStore, str], tmp_path: Path
) -> None:
    with docker_registry(tmp_path / "registry", auth=tokens.settings) as registry:
        site = logged_in(tmp_path / "docker", registry.host)
        first = store(registry.host, "team/first", site)
        copy(layout[0], first, layout[1], tag="v1")
        assert {row[0] for row in tokens.asked} == {SERVICE}
        assert {row[2] for row in tokens.asked} == {USER}
        scopes = [row[1] for row in tokens.asked]
        assert scopes.count(("repository:team/first:pull,push",)) == 1

        tokens.asked.clear()
        second = store(registry.host, "team/second", site)
        report = copy(first, second, layout[1], tag="v1", mount_from="team/first")
        assert report.count("mounted") == 2
        both = ("repository:team/second:pull,push", "repository:team/first:pull")
        assert both in [row[1] for row in tokens.asked]

        second.delete_tag("v1")
        assert ("repository:team/second:delete",) in [row[1] for row in tokens.asked]

        anonymous = store(registry.host, "team/first", Site())
        found = anonymous.manifest("v1")
        assert found is not None
        with pytest.raises(RelforgeError, match="did not take") as caught:
            anonymous.put_manifest(found, tag="v2")
        assert "it wants a login" in (caught.value.why or "")


def test_a_token_that_expires_half_way(
    tokens: TokenServer,
    layout: tuple[LayoutStore, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told to live five minutes, it is taken for two seconds."""
    monkeypatch.setattr("relforge.oci.upload.CHUNK_BYTES", 1 << 18)
    tokens.lives_s = 2.0
    digest = image(tmp_path / "big", b"big2")
    with (
        docker_registry(tmp_path / "registry", auth=tokens.settings) as registry,
        FaultyRegistry(registry.host) as proxy,
    ):
        site = logged_in(tmp_path / "docker", proxy.host)
        proxy.faults = [
            Fault("status", "PATCH", status=503, headers={"Retry-After": "3"}, skip=3, times=1)
        ]
        dst = store(proxy.host, "team/long", site)
        copy(LayoutStore(tmp_path / "big"), dst, digest, tag="v1")
        pushes = [row for row in tokens.asked if row[1] == ("repository:team/long:pull,push",)]
        assert len(pushes) >= 2
        assert registry.tags("team/long") == ["v1"]
        assert any(status == 401 for _, _, status in proxy.asked)


def test_a_refresh_token_in_place_of_a_password(
    tokens: TokenServer, layout: tuple[LayoutStore, str], tmp_path: Path
) -> None:
    with docker_registry(tmp_path / "registry", auth=tokens.settings) as registry:
        folder = tmp_path / "docker"
        folder.mkdir()
        config = {"auths": {registry.host: {"auth": "", "identitytoken": tokens.refresh}}}
        (folder / "config.json").write_text(json.dumps(config))
        site = Site(engine=EngineSite(config_dir=folder))
        copy(layout[0], store(registry.host, "team/refreshed", site), layout[1], tag="v1")
        assert {row[2] for row in tokens.asked} == {"refreshed"}
        assert redact.text(tokens.refresh) == "[redacted]"


def test_a_token_server_that_refuses(
    tokens: TokenServer, layout: tuple[LayoutStore, str], tmp_path: Path
) -> None:
    with docker_registry(tmp_path / "registry", auth=tokens.settings) as registry:
        site = logged_in(tmp_path / "docker", registry.host, password="not-the-password")
        with pytest.raises(RelforgeError, match="token server gave no token") as caught:
            copy(layout[0], store(registry.host, "team/none", site), layout[1], tag="v1")
        assert caught.value.code is ExitCode.PUBLISH
        assert "not-the-password" not in str(caught.value)
