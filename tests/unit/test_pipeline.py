"""The list of stages: each by its name, loaded where a run comes to it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from relforge.pipeline import STAGES
from relforge.stage import Stage

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_a_stage_of_the_list_is_the_one_of_its_name(name: str) -> None:
    (listed,) = (stage for stage in STAGES if stage.name == name)
    loaded = pickle.loads(pickle.dumps(listed))
    assert isinstance(loaded, Stage)
    assert type(loaded).name == name
    assert listed.title == loaded.title
    assert listed.result_type is loaded.result_type


def test_every_module_of_a_stage_is_listed() -> None:
    modules = {path.stem for path in (CHECKOUT / "relforge" / "stages").glob("[a-z]*.py")}
    assert {stage.name for stage in STAGES} == modules


def test_a_plan_up_to_a_stage_loads_none_behind_it(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from relforge.evidence.store import Store\n"
        "from relforge.manifest.project import Project, builtin_root\n"
        "from relforge.manifest.site import Site\n"
        "from relforge.pipeline import STAGES\n"
        "from relforge.plan import make_plan, subject\n"
        "project = Project((builtin_root(),))\n"
        "found = subject(project, project.release('tiny-adder-cpu_x86'), Site())\n"
        f"make_plan(found, STAGES, Store(Path({str(tmp_path)!r})), until='render')\n"
        "print(*sorted(m for m in sys.modules if m.startswith('relforge.stages.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {name.removeprefix("relforge.stages.") for name in done.stdout.split()}
    assert loaded == {"preflight", "weights", "sources", "unpatch", "render"}
