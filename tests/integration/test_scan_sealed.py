"""Sealed content in layers: whole files, parts, bytecode, native code, git objects, archives."""

from __future__ import annotations

import io
import marshal
import py_compile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from relforge.patching.kinds import patch_set_at
from relforge.patching.source import Recipe
from relforge.scanning.opening import markers_of
from relforge.scanning.sealed import Keeps, SealedMarkers
from relforge.scanning.seeking import Finder, Found
from relforge.workarea import work_area
from tests.support.patching import new_repository, write_patch_set
from tests.support.plaintext import files_holding
from tests.support.scanned import finder

BASE = (
    b"import math\n\n\ndef existing_function_of_upstream(value):\n"
    b"    return math.sqrt(value) * existing_scale_of_upstream\n"
    + b"# a comment that was there before\n"
    * 30
)
ADDED = (
    b"\n\ndef fused_rotary_vendor_kernel(tensor, blocks):\n"
    b"    tile = tensor.reshape(blocks, 16) * vendor_scaling_constant\n"
    b"    return launch_fused_rotary(tile, stream=current_vendor_stream())\n"
)
NEW = (
    b"VENDOR_LOOKUP_TABLE = [3, 1, 4]\n"
    + ADDED
    + b"# the vendor's own scheduling, see the manual\n"
)
CPP = (
    b"int vendor_attention_tiling(int rows) {\n"
    b"  return rows * VENDOR_WARP_FACTOR + vendor_padding_rule(rows);\n}\n"
)


@dataclass(frozen=True)
class Set:
    """An upstream with a patch set; ``after`` are the patched files."""

    recipe: Recipe
    home: Path
    after: dict[str, bytes]
    oid: str

    def markers(self, ships: Keeps) -> SealedMarkers:
        return markers_of("vendor", ships, self.recipe, home=self.home)

    def finder(self, ships: Keeps) -> Finder:
        return finder(sealed=[self.markers(ships)])


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Set:
    root = tmp_path_factory.mktemp("sealed")
    upstream = new_repository(root / "upstream")
    base = upstream.commit(
        {"engine/core.py": BASE, "engine/moved.py": b"moved = 'as it is'\n" * 9, "x.txt": b"\n"}
    )
    base_tree = upstream.tree(base)
    after = {"engine/core.py": BASE + ADDED, "engine/new.py": NEW, "csrc/tiling.cpp": CPP}
    upstream.git("mv", "engine/moved.py", "engine/elsewhere.py")
    done = upstream.commit({**after})
    oid = upstream.git("rev-parse", f"{done}:engine/new.py").decode().strip()
    patch = upstream.git("diff", "--binary", base, done)
    patches = write_patch_set(root / "set", {"0001.patch": patch})
    recipe = Recipe(upstream.git_dir, base_tree, patch_set_at(patches))
    return Set(recipe, root / "home", after, oid)


def rules(looking: Finder, path: str, data: bytes, *, lines_needed: int = 3) -> list[str]:
    found = Found(looking, lines_needed=lines_needed)
    found.file(path, io.BytesIO(data), len(data))
    return [hit.rule for hit in found.searched().hits]


def bytecode(tmp_path: Path, source: bytes, mode: py_compile.PycInvalidationMode) -> bytes:
    path = tmp_path / "new.py"
    path.write_bytes(source)
    done = py_compile.compile(str(path), doraise=True, invalidation_mode=mode)
    assert done is not None
    return Path(done).read_bytes()


@pytest.mark.parametrize("ships", ["none", "binaries"])
def test_a_patched_file_is_found_under_whatever_name(patched: Set, ships: Keeps) -> None:
    looking = patched.finder(ships)
    for content in patched.after.values():
        assert rules(looking, "opt/renamed.bin", content) == ["sealed-file"]


@pytest.mark.parametrize("ships", ["none", "binaries"])
def test_files_of_the_source_are_no_sealed_content(patched: Set, ships: Keeps) -> None:
    looking = patched.finder(ships)
    assert rules(looking, "opt/core.py", BASE) == []
    assert rules(looking, "opt/elsewhere.py", b"moved = 'as it is'\n" * 9) == []
    assert rules(looking, "opt/x.txt", b"\n") == []
    assert rules(looking, "opt/other.py", b"import math\n" * 50) == []


@pytest.mark.parametrize("ships", ["none", "binaries"])
def test_part_of_a_patched_file_is_found(patched: Set, ships: Keeps) -> None:
    looking = patched.finder(ships)
    assert rules(looking, "opt/part.py", b"# mine\n" + ADDED.replace(b"    ", b"\t")) == [
        "sealed-lines"
    ]
    one = ADDED.splitlines()[3]
    assert rules(looking, "opt/one.py", one) == []
    # In evidence one line is enough, as a traceback shows it.
    assert rules(looking, "server.log", b"  File x\n    " + one, lines_needed=1) == ["sealed-lines"]


@pytest.mark.parametrize("mode", list(py_compile.PycInvalidationMode))
def test_bytecode_may_be_shipped_with_binaries_only(
    patched: Set, tmp_path: Path, mode: py_compile.PycInvalidationMode
) -> None:
    data = bytecode(tmp_path, NEW, mode)
    path = "opt/__pycache__/new.cpython-311.pyc"
    assert rules(patched.finder("none"), path, data) == ["sealed-bytecode"]
    assert rules(patched.finder("binaries"), path, data) == []
    # With the head of another file its names still tell.
    other = bytes(4) + (1).to_bytes(4, "little") + bytes(8) + data[16:]
    assert rules(patched.finder("none"), path, other) == ["sealed-names"]


def test_bytecode_of_other_sources_is_none_of_it(patched: Set, tmp_path: Path) -> None:
    looking = patched.finder("none")
    for mode in py_compile.PycInvalidationMode:
        data = bytecode(tmp_path, BASE, mode)
        assert rules(looking, "opt/__pycache__/new.cpython-311.pyc", data) == []
    assert rules(looking, "opt/new.pyc", bytes(16) + marshal.dumps(None)) == []


def test_native_code_may_be_shipped_with_binaries_only(patched: Set) -> None:
    symbols = b"\0".join(
        [b"_Z23vendor_attention_tilingi", b"VENDOR_WARP_FACTOR", b"vendor_padding_rulei"]
    )
    library = b"\x7fELF" + bytes(500) + symbols
    assert rules(patched.finder("none"), "opt/_C.so", library) == ["sealed-names"]
    assert rules(patched.finder("binaries"), "opt/_C.so", library) == []
    assert rules(patched.finder("none"), "opt/_D.so", library[:520]) == []


def test_git_objects_and_packs_are_found(patched: Set) -> None:
    looking = patched.finder("binaries")
    blob = zlib.compress(b"blob %d\0" % len(NEW) + NEW)
    path = f"opt/src/.git/objects/{patched.oid[:2]}/{patched.oid[2:]}"
    assert rules(looking, path, blob) == ["sealed-git-object"]
    assert rules(looking, "opt/.git/objects/pack/pack-1.pack", b"PACK" + bytes(50)) == [
        "sealed-unreadable"
    ]
    assert rules(finder(), "opt/.git/objects/pack/pack-1.pack", b"PACK" + bytes(50)) == []


def test_no_policy_lets_a_sealed_file_through(patched: Set) -> None:
    from relforge.manifest.publishing import ContentPolicy

    policy = ContentPolicy(allowed={"*": "whatever"})
    looking = finder(policy=policy, sealed=[patched.markers("none")])
    assert rules(looking, "opt/x.py", NEW) == ["sealed-file"]
    assert rules(looking, "opt/x.py", b"# mine\n" + ADDED) == []


def test_nothing_of_the_patches_is_left_anywhere(patched: Set) -> None:
    patched.markers("none")
    with work_area(patched.home, "probe") as area:
        assert [p for p in area.parent.iterdir() if p != area] == []
    assert files_holding(b"fused_rotary_vendor_kernel", patched.home) == []
    assert "fused" not in repr(patched.markers("none"))


def test_a_wheel_with_patched_files_is_found(patched: Set, tmp_path: Path) -> None:
    from relforge.scanning.image import layer_reports
    from tests.support.scanned import make_layout

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("engine/new.py", NEW)
    make_layout(tmp_path / "l", {"srv/engine-1-py3-none-any.whl": data.getvalue()})
    (report,) = layer_reports(
        tmp_path / "l", patched.finder("binaries"), cache=tmp_path / "c", policy_key="k"
    )
    assert [hit.path for hit in report.searched.hits] == [
        "/srv/engine-1-py3-none-any.whl!engine/new.py"
    ]
