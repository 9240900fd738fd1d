"""Which releases changed since a commit, told from real repositories."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relforge import changed
from relforge.changed import changed_releases, touched_releases
from relforge.cli.dispatch import dispatch
from relforge.errors import ExitCode, RelforgeError
from relforge.evidence.store import Store
from relforge.lock import Lock, request_key
from relforge.manifest.earlier import earlier
from relforge.manifest.loader import load
from relforge.manifest.project import Project, builtin_root
from relforge.manifest.publishing import TrustedKey
from relforge.manifest.site import Site
from relforge.patching.bundle import seal
from relforge.patching.bundle.header import BundleSource, GitOrigin
from relforge.patching.keys import load_recipients, load_signing_key, new_keys
from relforge.patching.series import read_series
from tests.support.fleet import make_project
from tests.support.patching import Repository, new_repository

# The test runner's own threads are no danger to what is forked here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
COUNT = 12
"""Ten releases of model 0 and its patch set, two of model 1; chips 0 and 1 have two each."""
FIRST = [f"model-0-chip_{number}" for number in range(10)]
SECOND = ["model-1-chip_0", "model-1-chip_1"]


@dataclass
class Scene:
    """A project with a first commit. ``inside`` is its folder in the repository."""

    repository: Repository
    home: Path
    inside: str = ""
    site: Site = field(default_factory=Site)

    @property
    def root(self) -> Path:
        return self.repository.path / self.inside

    def file(self, relative: str) -> Path:
        return self.root / relative

    def edit(self, relative: str, old: str, new: str) -> None:
        path = self.file(relative)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def changed(self, revision: str = "HEAD", said: list[str] | None = None) -> list[str]:
        project = Project((self.root, builtin_root()))
        site = self.site.model_copy(update={"home": self.home})
        found = changed_releases(
            project,
            site,
            list(project.own_releases),
            revision,
            line=(said if said is not None else []).append,
        )
        assert list((self.home / "work").glob("*")) == [], "nothing is left of how it was"
        return found


def make_scene(folder: Path, inside: str = "") -> Scene:
    repository = new_repository(folder / "repository")
    (repository.path / inside).mkdir(parents=True, exist_ok=True)
    make_project(repository.path / inside, COUNT, 3)
    repository.commit(message="first")
    return Scene(repository, folder / "home", inside)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def test_nothing_changed(scene: Scene) -> None:
    assert scene.changed() == []
    scene.repository.git("commit", "-q", "--allow-empty", "-m", "nothing")
    assert scene.changed("HEAD~1") == []


def test_an_edited_release_committed_or_not(scene: Scene) -> None:
    scene.edit("manifests/releases/model-0-chip_3.yaml", "max-num-seqs: 32", "max-num-seqs: 16")
    said: list[str] = []
    assert scene.changed(said=said) == ["model-0-chip_3"]
    assert said == ["model-0-chip_3: other inputs of smoke"]
    scene.repository.commit()
    assert scene.changed() == []
    assert scene.changed("HEAD~1") == ["model-0-chip_3"]


def test_what_shows_in_no_key_changes_nothing(scene: Scene) -> None:
    path = scene.file("manifests/releases/model-0-chip_3.yaml")
    path.write_text("# A remark.\n" + path.read_text())
    path.touch()
    scene.file("README.md").write_text("For people.\n")
    (scene.root / "notes.txt").write_text("Read by nothing.\n")
    assert scene.changed() == []


def test_a_device_changes_its_releases_of_every_model(scene: Scene) -> None:
    scene.edit("manifests/devices/chip_1.yaml", "title: Chip 1", "title: Chip One")
    assert scene.changed() == ["model-0-chip_1", "model-1-chip_1"]


def test_a_model_changes_its_releases(scene: Scene) -> None:
    scene.edit("manifests/models/model-1.yaml", "title: Model 1", "title: Model One")
    assert scene.changed() == SECOND


def test_a_patch_set_that_no_lock_knows_yet(scene: Scene) -> None:
    scene.edit("patches/main-1/0001.patch", "+after 1", "+after 2")
    said: list[str] = []
    assert scene.changed(said=said) == SECOND
    assert said[0].startswith("model-1-chip_0: cannot be planned: patch set main-1")


def test_a_template_of_the_projects_own(scene: Scene) -> None:
    """Before the built-in one: as a copy it changes nothing, edited everything made of it."""
    folder = scene.file("dockerfiles")
    shutil.copytree(builtin_root() / "dockerfiles", folder)
    assert scene.changed() == []
    base = folder / "base.j2"
    base.write_text(base.read_text().replace("AS system\n", "AS system\nENV EDITED=1\n", 1))
    assert scene.changed() == sorted(FIRST + SECOND)
    scene.repository.commit()
    assert scene.changed() == []


def test_a_new_release_that_git_does_not_know_yet(scene: Scene) -> None:
    folder = scene.file("manifests/releases")
    for end in (".yaml", ".lock.yaml"):
        text = (folder / f"model-0-chip_0{end}").read_text()
        (folder / f"model-0-chip_0-fast{end}").write_text(
            text.replace("model-0-chip_0", "model-0-chip_0-fast")
        )
    said: list[str] = []
    assert scene.changed(said=said) == ["model-0-chip_0-fast"]
    assert said == ["model-0-chip_0-fast: new"]


def test_a_release_that_is_gone_is_none_to_build(scene: Scene) -> None:
    for end in (".yaml", ".lock.yaml"):
        scene.file(f"manifests/releases/model-0-chip_0{end}").unlink()
    assert scene.changed() == []


def test_a_project_in_a_folder_of_the_repository(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, "teams/serving")
    (scene.repository.path / "manifests").mkdir()
    (scene.repository.path / "manifests" / "other.yaml").write_text("another project's\n")
    assert scene.changed() == []
    scene.edit("manifests/releases/model-1-chip_0.yaml", "title: Model", "title: The model")
    assert scene.changed() == ["model-1-chip_0"]


def test_a_repository_that_had_no_project_then(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    repository.commit({"README": b"nothing yet\n"})
    make_project(_made(repository.path / "late"), 2, 3)
    scene = Scene(repository, tmp_path / "home", "late")
    assert scene.changed() == ["model-0-chip_0", "model-0-chip_1"]
    repository.commit()
    assert scene.changed("HEAD~1") == ["model-0-chip_0", "model-0-chip_1"]
    assert scene.changed() == []


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_a_project_without_git(tmp_path: Path) -> None:
    scene = Scene(Repository(tmp_path / "plain"), tmp_path / "home")
    scene.root.mkdir()
    make_project(scene.root, 1, 3)
    with pytest.raises(RelforgeError) as told:
        scene.changed()
    assert told.value.code == ExitCode.USAGE
    assert told.value.what == "the project is in no git repository"


@pytest.mark.parametrize("revision", ["no-such-branch", "0" * 40, "--help", "HEAD^{tree}", ""])
def test_a_revision_that_git_does_not_have(scene: Scene, revision: str) -> None:
    with pytest.raises(RelforgeError) as told:
        scene.changed(revision)
    assert told.value.code == ExitCode.USAGE
    assert repr(revision) in told.value.what
    assert "fetch more" in str(told.value.hint)


def test_a_shallow_clone_lacks_the_commit_and_the_hint_says_so(
    scene: Scene, tmp_path: Path
) -> None:
    scene.edit("manifests/releases/model-1-chip_0.yaml", "title: Model", "title: The model")
    first = scene.repository.head
    scene.repository.commit()
    clone = tmp_path / "clone"
    source = f"file://{scene.repository.path}"
    subprocess.run(["git", "clone", "-q", "--depth=1", source, clone], check=True)
    shallow = Scene(Repository(clone), tmp_path / "home")
    for revision in (first, "HEAD~1"):
        with pytest.raises(RelforgeError) as told:
            shallow.changed(revision)
        assert "fetched one commit alone" in str(told.value.hint)
    shallow.repository.git("fetch", "-q", "--unshallow")
    assert shallow.changed(first) == ["model-1-chip_0"]


@pytest.mark.parametrize("when", ["then", "now"])
@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("manifests/releases/model-1-chip_0.yaml", ["model-1-chip_0"]),
        ("manifests/releases/model-1-chip_0.lock.yaml", ["model-1-chip_0"]),
        ("manifests/devices/chip_1.yaml", ["model-0-chip_1", "model-1-chip_1"]),
        ("manifests/models/model-1.yaml", SECOND),
    ],
)
def test_a_manifest_that_cannot_be_read(
    scene: Scene, file: str, names: list[str], when: str
) -> None:
    whole = scene.file(file).read_text()
    scene.file(file).write_text("kind: [\n")
    if when == "then":
        scene.repository.commit()
        scene.file(file).write_text(whole)
    said: list[str] = []
    assert scene.changed(said=said) == names
    expected = {"then": "could not be planned then", "now": "cannot be planned"}[when]
    assert all(expected in line for line in said)


def test_ignored_files_are_what_they_were(scene: Scene) -> None:
    """Weights that are not in git: they are there on both sides, and no change."""
    scene.file(".gitignore").write_text("/weights/\n/local/\n")
    scene.repository.git("rm", "-q", "-r", "--cached", "weights")
    (scene.root / "local").mkdir()
    (scene.root / "local" / "scratch").write_text("mine\n")
    scene.repository.commit()
    scene.edit("manifests/devices/chip_1.yaml", "title: Chip 1", "title: Chip One")
    assert scene.changed() == ["model-0-chip_1", "model-1-chip_1"]
    assert (scene.root / "weights" / "model-0" / "config.json").is_file()


def test_a_submodule_counts_by_its_commit(scene: Scene, tmp_path: Path) -> None:
    vendor = new_repository(tmp_path / "vendor")
    for path in sorted(scene.file("patches/main-1").iterdir()):
        shutil.copy(path, vendor.path)
    vendor.commit()
    shutil.rmtree(scene.file("patches/main-1"))
    allowed = ("-c", "protocol.file.allow=always")
    scene.repository.commit()
    scene.repository.git(
        *allowed, "submodule", "--quiet", "add", str(vendor.path), "patches/main-1"
    )
    scene.repository.commit()
    assert scene.changed() == []
    # Something that everything is planned for: the set is the same, and there on both sides.
    shutil.copytree(builtin_root() / "dockerfiles", scene.file("dockerfiles"))
    assert scene.changed() == []
    inner = Repository(scene.file("patches/main-1"))
    inner.commit({"README": b"another commit\n"})
    assert scene.changed() == SECOND


def test_a_bundle_that_is_sealed_anew_with_the_same_content_is_no_change(
    scene: Scene, tmp_path: Path
) -> None:
    upstream = new_repository(tmp_path / "upstream")
    base = upstream.commit({f"file-{number}.py": b"before\n" for number in (1, 2)})
    keys = new_keys(tmp_path / "keys", "vendor")

    def seal_set(*, others: Path | None = None) -> str:
        recipients = load_recipients([keys.recipient, *([others] if others else [])])
        sealed = seal(
            read_series(scene.file("patches/main-1")),
            store_git_dir=upstream.git_dir,
            source=BundleSource(
                name="main", origin=GitOrigin(url="https://git.example/main.git", commit=base)
            ),
            base_commit=base,
            base_tree=upstream.tree(base),
            device=None,
            ships="python",
            creator="the vendor",
            recipients=recipients,
            signing_key=load_signing_key(keys.signing_key),
            out=scene.file("patches/main-1.bundle"),
            home=tmp_path / "sealing",
        )
        return str(sealed.header.result_tree)

    result = seal_set()
    project = Project((scene.root, builtin_root()))
    for name in SECOND:
        scene.edit(f"manifests/releases/{name}.yaml", "patches/main-1", "patches/main-1.bundle")
        release = project.release(name)
        lock = scene.file(f"manifests/releases/{name}.lock.yaml")
        found = load(lock, Lock)
        text = lock.read_text()
        for old, new in (
            (found.request, request_key(release, project.device(release.device))),
            (found.patches["main-1"].result_tree, result),
            (found.patches["main-1"].base_tree, upstream.tree(base)),
        ):
            text = text.replace(str(old), str(new))
        lock.write_text(text)
    scene.site = Site(trusted_keys=(TrustedKey(name="vendor", public_key=keys.signing_public),))
    scene.repository.commit()
    assert scene.changed() == []
    before = scene.file("patches/main-1.bundle").read_bytes()
    seal_set(others=new_keys(tmp_path / "more", "other").recipient)
    assert scene.file("patches/main-1.bundle").read_bytes() != before
    said: list[str] = []
    assert scene.changed(said=said) == [], said
    scene.edit("patches/main-1/0001.patch", "+after 1", "+after 9")
    seal_set()
    assert scene.changed() == SECOND


EDITS = {
    "release": ("manifests/releases/model-0-chip_4.yaml", "dtype: float32", "dtype: float16"),
    "remark": ("manifests/releases/model-0-chip_5.yaml", "# yaml", "# a remark; yaml"),
    "lock": ("manifests/releases/model-1-chip_1.lock.yaml", "1.1.0", "1.1.1"),
    "device": ("manifests/devices/chip_7.yaml", "2.17.0", "2.18.0"),
    "model": ("manifests/models/model-0.yaml", "parameters: 493696", "parameters: 493697"),
    "patch": ("patches/main-0/0002.patch", "-before", "-between"),
    "weights": ("weights/model-1/reference.json", "of 1", "of one"),
}


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_what_is_not_planned_would_have_been_found_unchanged(
    scene: Scene, edit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when every release is planned twice, whatever git says of its files."""
    scene.edit(*EDITS[edit])
    quick = scene.changed()
    monkeypatch.setattr(changed, "touched_releases", lambda _project, names, _files: list(names))
    assert scene.changed() == quick
    assert bool(quick) == (edit != "remark")


def test_one_edited_release_alone_is_planned(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.edit(*EDITS["release"])
    planned: list[str] = []
    keys = changed._keys

    def watched(name: str, project: Project, site: Site, store: Store) -> Mapping[str, str]:
        planned.append(name)
        return keys(name, project, site, store)

    monkeypatch.setattr(changed, "_keys", watched)
    assert scene.changed() == ["model-0-chip_4"]
    assert planned == ["model-0-chip_4"] * 2


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("docs/guide.md", []),
        (".github/workflows/relforge.yml", []),
        ("manifests/schema/release.schema.json", []),
        ("manifests/releases/model-0-chip_2.yaml", ["model-0-chip_2"]),
        ("manifests/releases/model-0-chip_2.lock.yaml", ["model-0-chip_2"]),
        ("manifests/releases/none.yaml", []),
        ("manifests/devices/chip_0.yaml", ["model-0-chip_0", "model-1-chip_0"]),
        ("patches/main-1/0001.patch", SECOND),
        ("manifests/references/any.yaml", FIRST + SECOND),
        ("manifests/translations/zh.yaml", FIRST + SECOND),
        ("dockerfiles/base.j2", FIRST + SECOND),
        ("tasks/questions.jsonl", FIRST + SECOND),
    ],
)
def test_whose_a_file_is(scene: Scene, file: str, names: list[str]) -> None:
    project = Project((scene.root, builtin_root()))
    assert touched_releases(project, project.own_releases, [file]) == sorted(names)


def test_the_users_index_and_work_tree_stay_as_they_are(scene: Scene) -> None:
    scene.edit(*EDITS["device"])
    status = scene.repository.git("status", "--porcelain", "--ignored")
    index = scene.repository.git_dir / "index"
    path = scene.file(EDITS["release"][0])
    path.touch()  # git would like to note that it has looked
    before = index.read_bytes()
    assert scene.changed()
    assert index.read_bytes() == before
    assert scene.repository.git("status", "--porcelain", "--ignored") == status


def test_names_with_odd_characters_are_told_as_they_are(scene: Scene) -> None:
    project = Project((scene.root, builtin_root()))
    for name in ("a b.txt", "ümlaut.txt", "new\nline.txt"):
        (scene.root / name).write_text("x")
    with earlier(project, "HEAD") as then:
        assert then.differing() == {"a b.txt", "ümlaut.txt", "new\nline.txt"}


def test_the_option_of_the_command(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELFORGE_HOME", str(scene.home))
    words = ["--changed-since", "HEAD", "--json", "--project", str(scene.root)]
    assert dispatch("build", words) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"releases": [], "not_started": []}
    assert "nothing changed since HEAD" in told.err
