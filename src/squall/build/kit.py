"""What a build is lent of this machine: one directory, shown read-only at /run/squall-build while steps run.

It holds copies of small files (authorities, constraints, keys) and mount points for uv and for the machine's
own indexes. Nothing of it enters a hash or stays in the image: the mount point is the base system's own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from squall.build.base import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from squall.build.machine import Machine
    from squall.build.pipconfig import PipSettings

#: Where the kit is seen by the commands of a step; every base has this empty directory.
POINT = "/run/squall-build"
FILES = f"{POINT}/files"
UV = f"{POINT}/uv"


@dataclass(frozen=True)
class Kit:
    """`binds` are from paths of the host to paths in the image, in the order in which they must be made."""

    pip: PipSettings
    env: Mapping[str, str]
    binds: Mapping[str, str]


@contextmanager
def made(machine: Machine, parent: Path, uv: str) -> Iterator[Kit]:
    """A kit, in a new directory below `parent`, gone at the end."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    try:
        folder.chmod(0o755)  # the container's root is not its owner
        yield _fill(folder, machine, uv)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_uv() -> str:
    """The path of the uv program that belongs to this installation. Raises BuildError."""
    try:
        import uv

        return os.path.realpath(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise BuildError("uv is missing on this node; install it with: pip install 'squall[server]'")
    return os.path.realpath(found)


def host_paths(machine: Machine, uv: str) -> tuple[str, ...]:
    """The paths outside of the state directory that builds are shown: uv and the machine's local indexes."""
    settings = machine.pip.present(os.path.exists)
    return (uv, *(os.path.realpath(path) for path in settings.local_paths()))


def _fill(folder: Path, machine: Machine, uv: str) -> Kit:
    (folder / "files").mkdir()
    (folder / "uv").touch()
    settings = machine.pip.present(os.path.exists)
    places = _copies(folder, settings)
    binds = {str(folder): POINT, uv: UV}
    for number, path in enumerate(settings.local_paths()):
        places[path] = f"{POINT}/local-{number}"
        _mount_point(folder / f"local-{number}", path)
        binds[os.path.realpath(path)] = places[path]
    pip = settings.moved(lambda path: _moved(path, places))
    _write(folder / "pip.conf", pip.for_pip())
    _fill_apt(folder / "apt", machine, pip)
    return Kit(pip, _environment(pip), binds)


def _environment(pip: PipSettings) -> dict[str, str]:
    return {
        **pip.for_uv(),
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "PIP_CONFIG_FILE": f"{POINT}/pip.conf",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "APT_CONFIG": f"{POINT}/apt/apt.conf",
        "DEBIAN_FRONTEND": "noninteractive",
    }


def _copies(folder: Path, settings: PipSettings) -> dict[str, str]:
    files = {path: f"constraints-{n}.txt" for n, path in enumerate(settings.constraints)}
    if settings.ca_bundle:
        files[settings.ca_bundle] = "ca.pem"
    return {path: f"{POINT}/{name}" for path, name in files.items() if _copy(path, folder / name)}


def _fill_apt(folder: Path, machine: Machine, pip: PipSettings) -> None:
    """Only the main sources.list is ours, so that a user's own files in sources.list.d count as well."""
    folder.mkdir()
    keys: dict[str, str] = {}
    point = f"{POINT}/apt"

    def key_path(key: str) -> str:
        if key not in keys:
            wanted = [key] if key else machine.apt.trusted
            paths = [path for one in wanted for path in _add_key(folder, one, len(list(folder.iterdir())))]
            keys[key] = ",".join(f"{point}/{path}" for path in paths)
        return keys[key]

    _write(folder / "sources.list", machine.apt.sources_list(key_path))
    lines = [*machine.apt.options, 'APT::Sandbox::User "root";']  # a container may lack the user _apt
    if machine.apt.sources:
        lines.append(f'Dir::Etc::sourcelist "{point}/sources.list";')
    if pip.ca_bundle:
        lines.append(f'Acquire::https::CAInfo "{pip.ca_bundle}";')
    _write(folder / "apt.conf", "\n".join(lines) + "\n")


def _add_key(folder: Path, key: str, number: int) -> list[str]:
    """Copy a key, given as its text or as paths (commas or spaces between); gives the names in the kit."""
    if "BEGIN PGP" in key:
        _write(folder / f"key-{number}.asc", key.strip() + "\n")
        return [f"key-{number}.asc"]
    paths = [Path(path) for path in key.replace(",", " ").split()]
    names = [(path, f"key-{number}-{n}{path.suffix}") for n, path in enumerate(paths)]
    return [name for path, name in names if _copy(str(path), folder / name)]


def _mount_point(point: Path, source: str) -> None:
    if os.path.isdir(source):
        point.mkdir()
    else:
        point.touch()


def _copy(source: str, target: Path) -> bool:
    try:
        target.write_bytes(Path(source).read_bytes())
    except OSError:
        return False
    target.chmod(0o644)
    return True


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)  # whatever the umask


def _moved(path: str, places: Mapping[str, str]) -> str:
    for place in sorted(places, key=len, reverse=True):
        if path == place or path.startswith(place.rstrip("/") + "/"):
            return places[place] + path[len(place) :]
    return path
