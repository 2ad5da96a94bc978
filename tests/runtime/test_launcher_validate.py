"""What the launcher refuses before it acts: malformed and dangerous specs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from squall.runtime.launcher.sources import SourceError, Sources
from squall.runtime.launcher.validate import SpecError, checked_id, parse_spec
from squall.runtime.spec import ContainerSpec, Mount

if TYPE_CHECKING:
    from pathlib import Path

FIRST, LAST = 1_000_000, 2_000_000


def spec(**changed: Any) -> dict[str, Any]:
    given = ContainerSpec(
        id="c-1",
        workspace="main",
        uid_base=FIRST + 65_536,
        argv=("true",),
        layers=("/layers/a",),
        mounts=(Mount("/src", "/dst"),),
        env={"A": "b"},
    )
    return {**given.to_json(), **changed}


def test_good_spec_passes_unchanged() -> None:
    parsed = parse_spec(spec(), FIRST, LAST)
    assert parsed.to_json() == spec()


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "../x"},
        {"id": ""},
        {"id": "-x"},
        {"id": "x" * 65},
        {"id": 7},
        {"id": "x\n"},
        {"workspace": "a/b"},
        {"hostname": "-bad"},
        {"hostname": "x" * 64},
        {"uid_base": 0},
        {"uid_base": FIRST + 1},
        {"uid_base": FIRST - 65_536},
        {"uid_base": LAST + 65_536},
        {"uid_base": "1000000"},
        {"uid_base": True},
        {"argv": []},
        {"argv": ["a\0b"]},
        {"argv": [1]},
        {"argv": None},
        {"env": []},
        {"env": {"A=B": "c"}},
        {"env": {"": "c"}},
        {"env": {"A": 1}},
        {"env": {"A": "\0"}},
        {"cwd": "relative"},
        {"cwd": None},
        {"layers": ["relative"]},
        {"layers": ["/x"] * 257},
        {"layers": None},
        {"upper": "relative"},
        {"upper": "/x/a,b"},
        {"upper": "/x/a:b"},
        {"upper": "/x/.."},
        {"mounts": [{"source": "/a", "target": "/"}]},
        {"mounts": [{"source": "/a", "target": "/x/../proc"}]},
        {"mounts": [{"source": "/a", "target": "/proc/sys"}]},
        {"mounts": [{"source": "/a", "target": "//dev"}]},
        {"mounts": [{"source": "/a", "target": "x"}]},
        {"mounts": [{"source": "a", "target": "/x"}]},
        {"mounts": [{"source": "/a", "target": "/x", "read_only": 0}]},
        {"mounts": [{"source": "/a"}]},
        {"mounts": [{"source": "/a", "target": "/x"}] * 129},
        {"network": "host"},
        {"resources": {"cpu_millis": 0}},
        {"resources": {"memory_mib": -1}},
        {"resources": {"pids": "many"}},
        {"resources": {"memory_limit_mib": 1.5}},
        {"resources": {"unknown": 1}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_bad_spec_is_refused_in_one_line(changed: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(spec(**changed), FIRST, LAST)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "x", 1, {}])
def test_no_spec_at_all(data: object) -> None:
    with pytest.raises(SpecError):
        parse_spec(data, FIRST, LAST)


@pytest.mark.parametrize("data", [None, [], 1, "a/b", "a b", ".."])
def test_container_ids_are_plain(data: object) -> None:
    with pytest.raises(SpecError):
        checked_id(data)


def test_sources_must_lie_in_allowed_directories(tmp_path: Path) -> None:
    (tmp_path / "ro" / "sub").mkdir(parents=True)
    (tmp_path / "rw").mkdir()
    (tmp_path / "ro-not").mkdir()
    (tmp_path / "ro" / "link").symlink_to("sub")
    sources = Sources([str(tmp_path / "ro")], [str(tmp_path / "rw")])
    for good in (f"{tmp_path}/ro", f"{tmp_path}/ro/sub", f"{tmp_path}/rw"):
        os.close(sources.open(good))
    for bad in ("ro/link", "ro-not", "ro/../rw", "ro/none", "", "ro//sub"):
        with pytest.raises(SourceError):
            sources.open(f"{tmp_path}/{bad}")
    with pytest.raises(SourceError, match="writable"):
        sources.open(f"{tmp_path}/ro/sub", writable=True)


def test_missing_root_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="name an existing directory"):
        Sources([str(tmp_path / "none")], [])
