"""Which files travel: projects of every layout, nothing imported."""

from __future__ import annotations

import os
import sys
import textwrap
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.exception import InvalidError, ModuleNotMountable
from squall.sdk.patterns import NON_PYTHON_FILES
from squall.sdk.recipes import PythonSource
from squall.sdk.source import Root, app_source, collect, home, python_source
from squall.sdk.source.imports import imported
from squall.sdk.source.locate import is_local, locate

if TYPE_CHECKING:
    from collections.abc import Callable

    Project = Callable[[dict[str, str]], Path]


def files(root: Path, module: str, file: str) -> list[str]:
    return sorted(app_source([Root(module, str(root / file))]).files)


def test_a_script_and_what_it_imports(project: Project) -> None:
    root = project(
        {
            "job_script.py": "import job_helper, os\nfrom job_tools import x\ndef f(): import job_lazy\n",
            "job_helper.py": "import job_deep",
            "job_deep.py": "",
            "job_tools.py": "x = 1",
            "job_lazy.py": "",
            "job_other.py": "",
            "data.csv": "1",
            ".env": "SECRET=1",
        }
    )
    assert files(root, "job_script", "job_script.py") == [
        "job_deep.py",
        "job_helper.py",
        "job_lazy.py",
        "job_script.py",
        "job_tools.py",
    ]
    assert "job_helper" not in sys.modules


def test_a_package_travels_whole(project: Project) -> None:
    root = project(
        {
            "pkg_a/__init__.py": "",
            "pkg_a/jobs/__init__.py": "from .. import util\nfrom ..util import x\n",
            "pkg_a/jobs/train.py": "from . import other\nimport pkg_b\n",
            "pkg_a/jobs/other.py": "",
            "pkg_a/util.py": "x = 1",
            "pkg_a/unused.py": "import pkg_c",
            "pkg_a/model.bin": "0",
            "pkg_a/.env": "",
            "pkg_a/.hidden.py": "",
            "pkg_a/__pycache__/util.cpython-311.py": "",
            "pkg_a/.git/hook.py": "",
            "pkg_a/node_modules/x.py": "",
            "pkg_a/venv/pyvenv.cfg": "",
            "pkg_a/venv/lib/x.py": "",
            "pkg_a/jobs/nopackage/script.py": "",
            "pkg_b/__init__.py": "",
            "pkg_c.py": "",
        }
    )
    assert files(root, "pkg_a.jobs.train", "pkg_a/jobs/train.py") == [
        "pkg_a/__init__.py",
        "pkg_a/jobs/__init__.py",
        "pkg_a/jobs/nopackage/script.py",
        "pkg_a/jobs/other.py",
        "pkg_a/jobs/train.py",
        "pkg_a/unused.py",
        "pkg_a/util.py",
        "pkg_b/__init__.py",
        "pkg_c.py",
    ]


def test_namespace_packages_travel_in_parts(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    (other / "ns_x/far").mkdir(parents=True)
    (other / "ns_x/far/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(other))
    root = project(
        {
            "ns_x/near/__init__.py": "from ns_x.far import thing\nfrom ns_x import single\n",
            "ns_x/single.py": "",
            "ns_x/not_imported.py": "",
        }
    )
    assert files(root, "ns_x.near", "ns_x/near/__init__.py") == [
        "ns_x/far/__init__.py",
        "ns_x/near/__init__.py",
        "ns_x/single.py",
    ]


def test_a_src_layout_through_a_pth_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    """What a .pth file of an editable install does is one more entry of sys.path."""
    src = tmp_path / "checkout" / "src"
    (src / "editable_pkg").mkdir(parents=True)
    (src / "editable_pkg" / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(src)])
    root = project({"uses_editable.py": "import editable_pkg"})
    assert "editable_pkg/__init__.py" in files(root, "uses_editable", "uses_editable.py")


class EditableFinder:
    """As setuptools writes one: a finder that maps names to folders."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [str(self._folder)]) if name == self._name else None


def test_an_editable_install_through_a_finder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    (tmp_path / "elsewhere" / "mapped_pkg").mkdir(parents=True)
    (tmp_path / "elsewhere" / "mapped_pkg" / "__init__.py").write_text("")
    finder: Any = EditableFinder("mapped_pkg", tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    root = project({"uses_mapped.py": "import mapped_pkg.sub"})
    assert "mapped_pkg/__init__.py" in files(root, "uses_mapped", "uses_mapped.py")


def test_what_is_installed_stays_behind(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "env" / "lib" / "site-packages"
    (installed / "installed_pkg").mkdir(parents=True)
    (installed / "installed_pkg" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(installed))
    root = project(
        {"uses_installed.py": "import installed_pkg, pytest, msgspec, squall, numpy, no_such_thing\n"}
    )
    assert files(root, "uses_installed", "uses_installed.py") == ["uses_installed.py"]
    assert locate("installed_pkg") is None
    assert locate("installed_pkg", installed=True) is not None


def test_functions_of_an_installed_package_travel(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "dist-packages"
    (installed / "their_app").mkdir(parents=True)
    (installed / "their_app" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(installed))
    assert files(installed, "their_app", "their_app/__init__.py") == ["their_app/__init__.py"]


def test_the_standard_library_is_never_local() -> None:
    assert not is_local(os.__file__)
    assert locate("json") is None
    assert locate("squall") is None
    assert locate("_socket") is None
    assert locate("__main__") is None


def test_code_that_does_not_parse_travels_as_it_is(project: Project) -> None:
    root = project({"old_pkg/__init__.py": "", "old_pkg/py2.py": "print 'x'\n", "old_pkg/nul.py": "\0"})
    assert len(files(root, "old_pkg", "old_pkg/__init__.py")) == 3


def test_a_script_may_be_called_anything(project: Project) -> None:
    root = project({"my-job": "x = 1\n"})
    assert files(root, "my-job", "my-job") == ["my-job.py"]


def test_files_are_hashed_as_they_are_sent(project: Project) -> None:
    root = project({"once.py": "x = 1\n"})
    tree = app_source([Root("once", str(root / "once.py"))])
    (root / "once.py").write_text("x = 2\n")
    assert tree.files["once.py"].read() == b"x = 1\n"


def test_too_much_source_names_what_is_large(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "MAX_BYTES", 1 << 20)
    root = project({"huge_pkg/__init__.py": "", "huge_pkg/gen/tables.py": "#" * (2 << 20)})
    with pytest.raises(ModuleNotMountable, match=r"huge_pkg/gen \(2\.0 MiB\)") as caught:
        files(root, "huge_pkg", "huge_pkg/__init__.py")
    assert "include_source=False" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_files(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "MAX_FILES", 3)
    root = project({"many_pkg/__init__.py": "", **{f"many_pkg/m{i}.py": "" for i in range(5)}})
    with pytest.raises(ModuleNotMountable, match="over 3 files"):
        files(root, "many_pkg", "many_pkg/__init__.py")


def test_a_file_that_cannot_be_read(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project({"locked.py": ""})

    def refuse(path: str) -> bytes:
        raise InvalidError(f"cannot read {path}: Permission denied")

    monkeypatch.setattr("squall.sdk.trees.read", refuse)
    with pytest.raises(InvalidError, match=r"cannot read .*locked\.py: Permission denied"):
        files(root, "locked", "locked.py")


def test_a_module_without_a_file() -> None:
    with pytest.raises(ModuleNotMountable, match="serialized=True"):
        app_source([Root("made.on.the.fly", "")])


def test_named_modules_may_take_their_data(project: Project) -> None:
    project({"with_data/__init__.py": "import named_not", "with_data/t.json": "{}", "named_not.py": ""})
    assert list(python_source([PythonSource(("with_data",), NON_PYTHON_FILES)]).files) == [
        "with_data/__init__.py"
    ]
    assert len(python_source([PythonSource(("with_data",), ())]).files) == 2
    with pytest.raises(ModuleNotMountable, match="no module nowhere_to_be_seen"):
        python_source([PythonSource(("nowhere_to_be_seen",), ())])


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("import a.b, c as d", "", {"a.b", "c"}),
        ("from a import b, c", "", {"a.b", "a.c"}),
        ("from a import *", "", {"a"}),
        ("from . import x", "p.q", {"p.q.x"}),
        ("from ..r import x", "p.q", {"p.r.x"}),
        ("from ... import x", "p.q", set()),
        ("from . import x", "", set()),
        ("import importlib\nimportlib.import_module('a.b')", "", {"importlib", "a.b"}),
        ("__import__('z')", "", {"z"}),
        ("import_module(name)\nimport_module('.rel', p)", "", set()),
        ("if TYPE_CHECKING:\n    import t\ntry:\n    import u\nexcept ImportError: pass", "", {"t", "u"}),
        ("'\\d'\nimport a", "", {"a"}),
        ("import a\nthis is no Python", "", set()),
    ],
)
def test_imports(source: str, package: str, expected: set[str]) -> None:
    assert imported(source.encode(), package) == expected


def test_a_module_of_its_own_name() -> None:
    found = home.home_of(test_imports)
    assert (found.module, found.is_main) == (__name__, False)
    assert found.file == __file__


@pytest.mark.parametrize("name", ["a.b.py", ".py"])
def test_scripts_that_no_name_fits(name: str) -> None:
    with pytest.raises(InvalidError, match="rename it"):
        home.script_name(f"/x/{name}")


MAIN = """
    import pickle, sys
    import squall
    app = squall.App("x")
    class Thing: pass
    @app.function()
    def f(): pass
    print(f.home.module, f.home.is_main)
    back = pickle.loads(pickle.dumps(Thing()).replace(b"__main__", b"a_script"))
    print(type(back) is Thing)
    print(b"Thing" in f._arguments((Thing(),), {}), b"cloudpickle" in f._arguments((Thing(),), {}))
"""


def run(*command: str, cwd: Path) -> str:
    import subprocess

    src = Path(squall.__file__).parents[1]
    environ = {**os.environ, "PYTHONPATH": str(src)}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_a_script_and_its_module_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a_script.py").write_text(textwrap.dedent(MAIN))
    assert run("a_script.py", cwd=tmp_path) == "a_script True\nTrue\nTrue False\n"


def test_a_module_run_by_its_name_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "__init__.py").write_text("")
    (tmp_path / "inside" / "a_script.py").write_text(
        textwrap.dedent(MAIN.replace("a_script", "inside.a_script")[:-1])
    )
    assert run("-m", "inside.a_script", cwd=tmp_path).startswith("inside.a_script True\n")


def test_functions_of_an_interactive_session_travel_by_value(tmp_path: Path) -> None:
    (tmp_path / "helper_of_it.py").write_text("import deeper_helper\n")
    (tmp_path / "deeper_helper.py").write_text("")
    (tmp_path / "stranger.py").write_text("")
    code = """
import squall, helper_of_it
from squall.sdk.source import app_source, roots_of
app = squall.App('x')
@app.function()
def f(): pass
print(f.serialized, sorted(app_source(roots_of(f.home)).files))
"""
    assert run("-c", code, cwd=tmp_path) == "True ['deeper_helper.py', 'helper_of_it.py']\n"
