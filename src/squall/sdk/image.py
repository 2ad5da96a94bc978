"""Images: what containers have besides the function's source. A recipe; nothing is built here."""

from __future__ import annotations

import os
import posixpath
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec

from squall.exception import InvalidError
from squall.sdk import checks, context, patterns, recipes, unavailable
from squall.sdk.patterns import NON_PYTHON_FILES
from squall.sdk.recipes import Mounted, Plan, PythonSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path, PurePosixPath

    from squall.sdk.patterns import Ignore
    from squall.sdk.trees import Tree

P = ParamSpec("P")

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
#: Where `add_local_python_source(copy=True)` puts modules, for steps that come after it.
COPIED_SOURCE = "/opt/python-source"
#: A folder shown here would hide what every program needs.
_NOT_HIDDEN = frozenset(
    {
        "/",
        "/bin",
        "/dev",
        "/etc",
        "/lib",
        "/lib64",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/sys",
        "/usr",
        "/var",
    }
)


class _Declared(NamedTuple):
    """What an image is made of. `closed`: something of local files comes last that is no build step."""

    base: str = "debian_slim"
    python: str = ""
    plans: tuple[Plan, ...] = ()
    force: bool = False
    files: tuple[tuple[str, str], ...] = ()
    mounted: tuple[Mounted, ...] = ()
    python_source: tuple[PythonSource, ...] = ()
    closed: bool = False


class Image:
    """A recipe. Each method gives a new image with one step more.

    `image = squall.Image.debian_slim().pip_install("numpy").apt_install("ffmpeg")`
    """

    _declared: _Declared

    def __init__(self) -> None:
        raise InvalidError("an image begins with a system: squall.Image.debian_slim()")

    @classmethod
    def _of(cls, declared: _Declared) -> Image:
        image = cls.__new__(cls)
        image._declared = declared
        return image

    @staticmethod
    def debian_slim(python_version: str | None = None, force_build: bool = False) -> Image:
        """A small Debian with Python, by default of the version that declares it.

        `force_build` builds all steps of the image anew; the Debian itself is shared, and stays.
        """
        version = python_version or f"{sys.version_info[0]}.{sys.version_info[1]}"
        if version not in PYTHONS:
            raise InvalidError(
                f"python_version={version!r} is not possible: give one of {', '.join(PYTHONS)}"
            )
        return Image._of(_Declared("debian_slim", version, force=checks.flag("force_build", force_build)))

    def pip_install(
        self,
        *packages: str | list[str],
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        **options: Any,
    ) -> Image:
        """Python packages, such as "numpy>=2", from the package index of the machine or `index_url`."""
        own = _own("pip_install", options)
        names = checks.flattened("pip_install", packages)
        if not names:
            return self
        args = _pip_args(names, find_links, index_url, extra_index_url, pre, extra_options)
        return self._step(Plan("pip", {**args, **own}), force_build)

    def uv_pip_install(
        self,
        *packages: str | list[str],
        requirements: list[str] | None = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        uv_version: str | None = None,
        **options: Any,
    ) -> Image:
        """As `pip_install`, which uses uv as well; `requirements` are files of packages."""
        own = _own("uv_pip_install", options)
        if uv_version is not None:
            raise unavailable.missing("Image.uv_pip_install: ", "uv_version=", "the node's own uv does it")
        image = self
        for path in checks.texts("requirements", requirements or []):
            image = image.pip_install_from_requirements(
                path,
                find_links,
                index_url=index_url,
                extra_index_url=extra_index_url,
                pre=pre,
                extra_options=extra_options,
                force_build=force_build,
                **own,
            )
        return image.pip_install(
            *packages,
            find_links=find_links,
            index_url=index_url,
            extra_index_url=extra_index_url,
            pre=pre,
            extra_options=extra_options,
            force_build=force_build,
            **own,
        )

    def pip_install_from_requirements(
        self,
        requirements_txt: str,
        find_links: str | None = None,
        *,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        **options: Any,
    ) -> Image:
        """The packages of a local requirements file, which is read when the image is built."""
        own = _own("pip_install_from_requirements", options)
        path = os.path.abspath(os.path.expanduser(requirements_txt))

        def late() -> tuple[Mapping[str, Any], Tree | None]:
            from squall.sdk.requirements import parse

            found = parse(path)
            return _pip_args(
                found.packages,
                find_links or found.find_links,
                index_url or found.index_url,
                extra_index_url or found.extra_index_url,
                pre or found.pre,
                extra_options,
            ), None

        return self._step(Plan("pip", own, late=late), force_build)

    def apt_install(self, *packages: str | list[str], force_build: bool = False, **options: Any) -> Image:
        """Debian packages, from the package sources of the machine."""
        own = _own("apt_install", options)
        names = checks.flattened("apt_install", packages)
        return self._step(Plan("apt", {"packages": names, **own}), force_build) if names else self

    def run_commands(self, *commands: str | list[str], force_build: bool = False, **options: Any) -> Image:
        """Shell commands, as root, inside the image."""
        own = _own("run_commands", options)
        lines = checks.flattened("run_commands", commands)
        return self._step(Plan("run", {"commands": lines, **own}), force_build) if lines else self

    def env(self, vars: dict[str, str]) -> Image:  # noqa: A002 - a name of the public surface
        """Environment variables, for the steps after this one and for containers."""
        return self._step(Plan("env", {"vars": checks.variables("vars", vars)}))

    def workdir(self, path: str | PurePosixPath) -> Image:
        """The folder in which commands and functions run; made if it is not there."""
        return self._step(Plan("workdir", {"path": _absolute("workdir", path)}))

    def add_local_file(self, local_path: str | Path, remote_path: str, *, copy: bool = False) -> Image:
        """A local file, at an absolute path. Without `copy`, it is read last, and no step may follow."""
        local = os.path.abspath(os.path.expanduser(local_path))
        target = _absolute("add_local_file", remote_path)
        if remote_path.endswith("/"):
            target = posixpath.join(target, os.path.basename(local))
        if not copy:
            return self._with(files=(*self._declared.files, (local, target)), closed=True)
        return self._step(_files_plan("/", partial(_file_trees, ((local, target),))))

    def add_local_dir(
        self, local_path: str | Path, remote_path: str, *, copy: bool = False, ignore: Ignore = ()
    ) -> Image:
        """A local folder, at an absolute path. Without `copy`, containers see it read-only, and the image
        is not built anew when files change; no step may follow.
        """
        local = os.path.abspath(os.path.expanduser(local_path))
        target = _absolute("add_local_dir", remote_path)
        matches = patterns.matcher(ignore)

        def read() -> Tree:
            from squall.sdk.trees import directory_tree

            return directory_tree(local, matches)

        if copy:
            return self._step(_files_plan(target, read))
        if target in _NOT_HIDDEN:
            raise InvalidError(f"add_local_dir: a folder at {target} would hide what is there: use copy=True")
        return self._with(mounted=(*self._declared.mounted, Mounted(target, read)), closed=True)

    def add_local_python_source(
        self, *modules: str, copy: bool = False, ignore: Ignore = NON_PYTHON_FILES
    ) -> Image:
        """Local modules and packages, by name, so that containers can import them."""
        source = PythonSource(tuple(checks.flattened("add_local_python_source", modules)), ignore)
        patterns.matcher(ignore)
        sources = (*self._declared.python_source, source)
        if not copy:
            return self._with(python_source=sources, closed=True)
        image = self._step(_files_plan(COPIED_SOURCE, partial(_source_tree, source)))
        image = image._step(Plan("env", {"vars": {"PYTHONPATH": COPIED_SOURCE}}))
        return image._with(python_source=sources)

    def pipe(self, func: Callable[Concatenate[Image, P], Image], *args: P.args, **kwargs: P.kwargs) -> Image:
        """`func(image, *args, **kwargs)`: for steps that several images share."""
        return func(self, *args, **kwargs)

    @contextmanager
    def imports(self) -> Iterator[None]:
        """For imports that only the image can do: `with image.imports(): import torch`.

        An ImportError counts in containers of this image, and nowhere else.
        """
        try:
            yield
        except ImportError:
            if self._is_here():
                raise

    # ---------------------------------------------------------------------------------------- for publishing

    def resolve(self) -> recipes.Resolved:
        """The recipe and all files. Raises InvalidError."""
        declared = self._declared
        plans = declared.plans
        if declared.files:
            plans = (*plans, _files_plan("/", partial(_file_trees, declared.files)))
        return recipes.resolve(declared.base, declared.python, plans, declared.mounted)

    @property
    def python_source(self) -> tuple[PythonSource, ...]:
        return self._declared.python_source

    def _is_here(self) -> bool:
        """Whether this process runs in a container of this image; if that cannot be told, any container."""
        if context.is_local():
            return False
        declared = self._declared
        recipe = recipes.recipe_without_files(declared.base, declared.python, declared.plans)
        if recipe is None or declared.files:
            return True
        from squall.wire.hashing import recipe_id

        here = os.environ.get("SQUALL_IMAGE_ID")
        return here is None or here == recipe_id(recipe)

    def _step(self, plan: Plan, force_build: bool = False) -> Image:
        if self._declared.closed:
            raise InvalidError(
                "an image cannot have a step after add_local_*: move add_local_* to its end, or use copy=True"
            )
        # All that stands on a step that is built anew is built anew.
        force = self._declared.force or checks.flag("force_build", force_build)
        return self._with(plans=(*self._declared.plans, plan._replace(force=force)), force=force)

    def _with(self, **changes: Any) -> Image:
        return Image._of(self._declared._replace(**changes))

    def __repr__(self) -> str:
        return f"<Image {' + '.join([self._declared.base, *(p.kind for p in self._declared.plans)])}>"


def checked_image(value: object) -> Image | None:
    """What `image=` was given. Raises InvalidError."""
    if value is None or isinstance(value, Image):
        return value
    raise InvalidError(f"image={checks.short(value)} is not possible: give a squall.Image")


def _pip_args(
    packages: list[str],
    find_links: str | None,
    index_url: str | None,
    extra_index_url: str | None,
    pre: bool,
    extra_options: str,
) -> dict[str, Any]:
    return {
        "packages": packages,
        "find_links": find_links,
        "index_url": index_url,
        "extra_index_url": extra_index_url,
        "pre": checks.flag("pre", pre),
        "extra_options": extra_options,
    }


def _files_plan(target: str, read: Callable[[], Tree]) -> Plan:
    def late() -> tuple[Mapping[str, Any], Tree | None]:
        tree = read()
        return {"manifest": tree.id}, tree

    return Plan("files", {"target": target}, late=late)


def _file_trees(files: Sequence[tuple[str, str]]) -> Tree:
    from squall.sdk import trees

    whole = trees.Tree()
    for local, target in files:
        whole.files.update(trees.file_tree(local, target).files)
    return whole


def _source_tree(source: PythonSource) -> Tree:
    from squall.sdk.source import python_source

    return python_source([source])


def _absolute(where: str, path: object) -> str:
    text = str(path)
    if not text.startswith("/") or "\0" in text:
        raise InvalidError(f"{where}: {text!r} is not possible: give an absolute path in the container")
    return posixpath.normpath(text).replace("//", "/")


#: Parameters that build steps have in the public surface besides `env`, and what to do without them.
_STEP_OPTIONS = {
    "secrets": "secrets of builds come with a later version: give them to the function",
    "gpu": "builds have no GPU in this version",
    "volumes": "volumes come with a later version",
}


def _own(step: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The argument `env` of a step, if it has any. Raises InvalidError, UnimplementedError."""
    checks.known(f"Image.{step}", options, {"env": None, **_STEP_OPTIONS})
    for name, value in options.items():
        if name != "env" and value:
            raise unavailable.missing(f"Image.{step}: ", f"{name}=", _STEP_OPTIONS[name])
    variables = checks.variables("env", options.get("env"))
    return {"env": variables} if variables else {}


_BASES = "use Image.debian_slim() with apt_install(), pip_install() and run_commands()"
_ELSEWHERE = {
    **dict.fromkeys(
        (
            "from_registry",
            "from_aws_ecr",
            "from_gcp_artifact_registry",
            "from_dockerfile",
            "from_scratch",
            "from_id",
            "from_name",
            "micromamba",
            "micromamba_install",
        ),
        _BASES,
    ),
    "dockerfile_commands": "use run_commands()",
    "pip_install_from_pyproject": 'list the packages in pip_install("...")',
    "pip_install_private_repos": "use run_commands() with git, or an index with pip_install(index_url=...)",
    "poetry_install_from_file": "export a requirements file and use pip_install_from_requirements()",
    "uv_sync": "export a requirements file and use pip_install_from_requirements()",
    "run_function": "use run_commands()",
    "cmd": "a container runs your function, and no command of the image",
    "entrypoint": "a container runs your function, and no command of the image",
    "shell": 'start the command with the shell: run_commands("bash -c ...")',
    "publish": "an image is built once, for all apps that declare it alike",
    "build": "images are built when their app runs",
}
for _name, _instead in _ELSEWHERE.items():
    setattr(Image, _name, staticmethod(unavailable.method("Image.", _name, _instead)))
unavailable.former_methods(Image, unavailable.FORMER_OF_IMAGES)
