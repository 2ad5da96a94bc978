"""Images: what the builder's methods write into the recipe, and what they refuse."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

import squall
from squall.exception import DataLossError, InvalidError, UnimplementedError
from squall.sdk.image import COPIED_SOURCE
from squall.wire.hashing import recipe_id
from squall.wire.values import Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

slim = squall.Image.debian_slim
UNTYPED: Any = squall.Image


def steps(image: squall.Image) -> list[Step]:
    return image.resolve().recipe.steps


def test_the_base() -> None:
    recipe = slim().resolve().recipe
    assert (recipe.base, recipe.python) == ("debian_slim", f"3.{sys.version_info[1]}")
    assert slim("3.12").resolve().recipe.python == "3.12"
    for version in ("3.9", "3.12.1", "3"):
        with pytest.raises(InvalidError, match=r"give one of 3\.10, 3\.11"):
            slim(version)
    with pytest.raises(InvalidError, match="debian_slim"):
        squall.Image()


def test_variables_of_one_step(tmp_path: Path) -> None:
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("six\n")
    env: dict[str, str | None] = {"A": "1", "B": None}
    image = (
        slim()
        .apt_install("git", env=env)
        .pip_install("a", env=env)
        .uv_pip_install("b", requirements=[str(wanted)], env=env)
        .run_commands("echo", env=env)
    )
    assert [(step.kind, step.args["env"]) for step in steps(image)] == [
        (kind, {"A": "1"}) for kind in ("apt", "pip", "pip", "pip", "run")
    ]
    assert "env" not in steps(slim().run_commands("echo", env={}))[0].args
    with pytest.raises(InvalidError, match="env="):
        slim().run_commands("echo", env={"A": 1})


def test_each_step() -> None:
    image = (
        slim()
        .apt_install("git", ["curl", "ffmpeg"])
        .pip_install("numpy", ["a", "b"], index_url="https://index", pre=True, extra_options="--no-deps")
        .run_commands("echo 1", ["echo 2"])
        .env({"A": "b"})
        .workdir("/data/")
    )
    assert steps(image) == [
        Step("apt", {"packages": ["git", "curl", "ffmpeg"]}),
        Step(
            "pip",
            {
                "packages": ["numpy", "a", "b"],
                "find_links": None,
                "index_url": "https://index",
                "extra_index_url": None,
                "pre": True,
                "extra_options": "--no-deps",
            },
        ),
        Step("run", {"commands": ["echo 1", "echo 2"]}),
        Step("env", {"vars": {"A": "b"}}),
        Step("workdir", {"path": "/data"}),
    ]
    assert repr(image) == "<Image debian_slim + apt + pip + run + env + workdir>"


def test_it_is_immutable() -> None:
    base = slim().pip_install("a")
    base.pip_install("b")
    assert len(steps(base)) == 1


def test_equal_images_have_equal_ids() -> None:
    one, other = slim().pip_install("a").env({"A": "1"}), slim().pip_install("a").env({"A": "1"})
    assert recipe_id(one.resolve().recipe) == recipe_id(other.resolve().recipe)
    assert recipe_id(slim().resolve().recipe) != recipe_id(one.resolve().recipe)


def test_nothing_to_install_is_no_step() -> None:
    assert steps(slim().pip_install().apt_install([]).run_commands()) == []


def test_force_build_goes_on_to_all_later_steps() -> None:
    image = slim().pip_install("a").pip_install("b", force_build=True).env({"A": "1"})
    assert [step.force for step in steps(image)] == [False, True, True]
    assert [step.force for step in steps(slim(force_build=True).pip_install("a"))] == [True]


def test_uv_is_pip() -> None:
    assert steps(slim().uv_pip_install("a")) == steps(slim().pip_install("a"))
    with pytest.raises(UnimplementedError, match="uv_version="):
        slim().uv_pip_install("a", uv_version="0.5")


def test_requirements_are_read_when_the_image_is_made(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    image = slim().pip_install_from_requirements(str(path))
    (tmp_path / "more.txt").write_text("more\n")
    path.write_text(
        "# comment\na==1 # why\nb>=2; python_version >= '3.8'\n--index-url=https://i/?a=b\n-r more.txt\n"
        "--pre\n-f links\nc==3 \\\n  --hash=sha256:00 --hash=sha256:11\n"
    )
    (step,) = steps(image)
    assert step.args["packages"] == ["a==1", "b>=2; python_version >= '3.8'", "more", "c==3"]
    assert (step.args["index_url"], step.args["find_links"], step.args["pre"]) == (
        "https://i/?a=b",
        "links",
        True,
    )
    (own,) = steps(slim().uv_pip_install(requirements=[str(path)], index_url="https://mine"))
    assert own.args["index_url"] == "https://mine"


@pytest.mark.parametrize("line", ["-e .", "-c constraints.txt", "--no-binary :all:", "-r"])
def test_requirements_that_an_image_cannot_have(tmp_path: Path, line: str) -> None:
    (tmp_path / "r.txt").write_text(f"a\n{line}\n")
    with pytest.raises(InvalidError, match=r"r\.txt:2: an image cannot have"):
        slim().pip_install_from_requirements(str(tmp_path / "r.txt")).resolve()


def test_requirements_that_include_themselves(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("-r r.txt\n")
    with pytest.raises(InvalidError, match="too deeply"):
        slim().pip_install_from_requirements(str(tmp_path / "r.txt")).resolve()


def test_a_local_file_that_is_not_there() -> None:
    image = slim().pip_install_from_requirements("nowhere.txt")
    with pytest.raises(InvalidError, match=r"nowhere\.txt"):
        image.resolve()
    with pytest.raises(InvalidError, match="no file /nowhere"):
        slim().add_local_file("/nowhere", "/x").resolve()
    with pytest.raises(InvalidError, match="no folder /nowhere"):
        slim().add_local_dir("/nowhere", "/x").resolve()


def test_local_files_are_the_last_step(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text("a")
    (tmp_path / "b.sh").write_text("b")
    (tmp_path / "b.sh").chmod(0o755)
    image = slim().add_local_file(tmp_path / "a.cfg", "/etc/x/").add_local_file(tmp_path / "b.sh", "/bin/b")
    resolved = image.resolve()
    (tree,) = resolved.trees
    assert resolved.recipe.steps == [Step("files", {"target": "/", "manifest": tree.id})]
    assert [(e.path, e.size, e.mode) for e in tree.manifest().entries] == [
        ("bin/b", 1, 0o755),
        ("etc/x/a.cfg", 1, 0o644),
    ]


def test_a_copied_file_is_a_step_like_others(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    image = slim().add_local_file(tmp_path / "a", "/a", copy=True).run_commands("cat /a")
    assert [step.kind for step in steps(image)] == ["files", "run"]


def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "sub/b.txt", "sub/c.log", ".hidden"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "folder" / "link.txt").symlink_to("a.txt")
    (tmp_path / "folder" / "loop").symlink_to(".")
    return tmp_path / "folder"


def test_a_local_folder_is_mounted(tmp_path: Path) -> None:
    resolved = slim().add_local_dir(folder(tmp_path), "/data", ignore=["**/*.log"]).resolve()
    ((target, tree),) = resolved.mounts
    assert (resolved.recipe.steps, resolved.trees, target) == ([], [], "/data")
    assert sorted(tree.files) == [".hidden", "a.txt", "link.txt", "sub/b.txt"]


def test_a_copied_folder_is_a_step(tmp_path: Path) -> None:
    image = slim().add_local_dir(
        folder(tmp_path), "/data", copy=True, ignore=lambda path: path.suffix == ".log"
    )
    resolved = image.run_commands("ls /data").resolve()
    assert [step.kind for step in resolved.recipe.steps] == ["files", "run"]
    assert resolved.recipe.steps[0].args["target"] == "/data"
    assert resolved.mounts == []


def test_nothing_is_built_on_local_files(tmp_path: Path) -> None:
    for image in (
        slim().add_local_dir(tmp_path, "/data"),
        slim().add_local_file("x", "/x"),
        slim().add_local_python_source("m"),
    ):
        with pytest.raises(InvalidError, match="use copy=True"):
            image.pip_install("a")


@pytest.mark.parametrize("target", ["/", "/etc", "/usr/"])
def test_a_mounted_folder_hides_nothing_that_is_needed(tmp_path: Path, target: str) -> None:
    with pytest.raises(InvalidError, match="would hide what is there"):
        slim().add_local_dir(tmp_path, target)
    slim().add_local_dir(tmp_path, target, copy=True)


@pytest.mark.parametrize("path", ["data", "", "~/x"])
def test_paths_in_the_container_are_absolute(path: str) -> None:
    calls: tuple[Callable[[], Any], ...] = (
        lambda: slim().workdir(path),
        lambda: slim().add_local_file("x", path),
        lambda: slim().add_local_dir("x", path),
    )
    for call in calls:
        with pytest.raises(InvalidError, match="absolute path"):
            call()


def test_a_large_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(200_000))
    ((_, tree),) = slim().add_local_dir(tmp_path, "/data").resolve().mounts
    assert len(tree.files["large"].read()) == 200_000
    path.write_bytes(b"other")
    with pytest.raises(DataLossError, match="changed while it was sent"):
        tree.files["large"].read()


def test_copied_python_source(project: Callable[[dict[str, str]], Path]) -> None:
    project({"copied/__init__.py": "", "copied/data.json": "{}"})
    image = slim().add_local_python_source("copied", copy=True)
    resolved = image.run_commands("python -c 'import copied'").resolve()
    files, env, _ = resolved.recipe.steps
    assert files.args["target"] == COPIED_SOURCE
    assert env.args == {"vars": {"PYTHONPATH": COPIED_SOURCE}}
    assert list(resolved.trees[0].files) == ["copied/__init__.py"]


def missing() -> None:
    import a_module_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401


def test_imports_are_for_containers_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    image = slim().pip_install("a")
    monkeypatch.delenv("SQUALL_IS_REMOTE", raising=False)
    with image.imports():
        missing()
    monkeypatch.setenv("SQUALL_IS_REMOTE", "1")
    monkeypatch.setenv("SQUALL_IMAGE_ID", recipe_id(slim().resolve().recipe))
    with image.imports():
        missing()
    monkeypatch.setenv("SQUALL_IMAGE_ID", recipe_id(image.resolve().recipe))
    with pytest.raises(ImportError), image.imports():
        missing()
    with pytest.raises(ZeroDivisionError), image.imports():
        print(1 / 0)


def test_pipe() -> None:
    def with_tools(image: squall.Image, *tools: str) -> squall.Image:
        return image.apt_install(*tools)

    assert steps(slim().pipe(with_tools, "git")) == [Step("apt", {"packages": ["git"]})]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slim().pip_install(3), "pip_install=3 is not possible: give a text"),  # type: ignore[arg-type]
        (lambda: slim().pip_install(""), "pip_install=''"),
        (lambda: slim().apt_install(["a", None]), "give a text"),  # type: ignore[list-item]
        (lambda: slim().env({"A": 1}), "give names and texts"),  # type: ignore[dict-item]
        (lambda: slim().pip_install("a", indexurl="x"), r"no parameter indexurl="),
        (lambda: slim().pip_install("a", pre=1), "give True or False"),  # type: ignore[arg-type]
        (lambda: slim().add_local_dir("x", "/x", ignore="*.log"), "give a list of patterns"),
    ],
)
def test_a_wrong_value_is_one_line(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: slim().pip_install("a", volumes={"/x": 1}),
        lambda: slim().apt_install("a", secrets=[1]),
        lambda: slim().run_commands("a", gpu="H100"),
        lambda: UNTYPED.from_registry("python:3.12"),
        lambda: UNTYPED.from_dockerfile("Dockerfile"),
        UNTYPED.micromamba,
        lambda: UNTYPED.debian_slim().dockerfile_commands("RUN x"),
        lambda: UNTYPED.debian_slim().poetry_install_from_file("pyproject.toml"),
        lambda: UNTYPED.debian_slim().run_function(print),
        lambda: UNTYPED.debian_slim().uv_sync(),
    ],
)
def test_what_is_not_there_yet_says_what_to_do(call: Callable[[], Any]) -> None:
    with pytest.raises(UnimplementedError, match=r"^Image\.\w+.* is not in this version of Squall: "):
        call()
