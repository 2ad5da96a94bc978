"""Roots of containers: layers, uppers, mounts, owners; and images that try to lead them astray."""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from squall.runtime.driver import DriverError
from squall.runtime.launcher import trees
from squall.runtime.launcher.config import FORCE_FALLBACK
from squall.runtime.spec import Mount
from tests.runtime.box import Box

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=["best", trees.FALLBACK])
def box(namespaces: Path, request: pytest.FixtureRequest) -> Iterator[Box]:
    """With overlays made in the best way that the kernel has, and in the way for older ones."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "best":
            patch.setenv(FORCE_FALLBACK, request.param)
        made = Box(namespaces / f"trees-{request.param}", ["--no-network"])
    yield made
    made.close()


def build(box: Box, name: str, script: str, *below: Path) -> Path:
    """Run a script with a layer of its own on top; the layer."""
    upper = box.layers / name
    layers = (str(box.base), *(str(b) for b in below))
    result = box.sh(script, layers=layers, upper=str(upper))
    assert result.status.code == 0, result.err
    return upper


def test_later_layers_win(box: Box) -> None:
    for n in (1, 2):
        layer = box.layer(f"win{n}")
        (layer / "which").write_text(str(n))
        (layer / f"only{n}").write_text("")
    layers = (str(box.base), str(box.layers / "win1"), str(box.layers / "win2"))
    assert box.sh("cat /which; ls -d /only*", layers=layers).out == "2/only1\n/only2\n"


def test_sixty_layers(box: Box) -> None:
    layers = [str(box.base)]
    for n in range(64):
        layer = box.layer(f"many{n}")
        (layer / f"f{n}").write_text("")
        layers.append(str(layer))
    assert box.sh("ls -d /f* | wc -l", layers=tuple(layers)).out.strip() == "64"


def test_no_layer_at_all(box: Box) -> None:
    with pytest.raises(DriverError, match="cannot run '/bin/sh'"):
        box.sh("true", layers=())


def test_host_owner_of_layers_is_root_inside(box: Box) -> None:
    layer = box.layer("owners")
    (layer / "roots").write_text("secret")
    (layer / "roots").chmod(0o600)
    (layer / "theirs").write_text("x")
    os.chown(layer / "theirs", 33, 34)
    out = box.sh("cat /roots; stat -c %u:%g /roots /theirs", layers=(str(box.base), str(layer))).out
    assert out == "secret0:0\n33:34\n"


def test_layer_is_not_changed_by_a_container(box: Box) -> None:
    layer = box.layer("kept")
    (layer / "a").write_text("old")
    (layer / "b").write_text("old")
    script = "echo new > /a && rm /b && touch /c && cat /a"
    assert box.sh(script, layers=(str(box.base), str(layer))).out == "new\n"
    assert sorted(p.name for p in layer.iterdir()) == ["a", "b"]
    assert (layer / "a").read_text() == "old"


def test_build_belongs_to_root_on_disk(box: Box) -> None:
    upper = build(box, "owned", "echo hi > /new; mkdir /d; touch /d/f; chown 33:34 /d/f; chown 5 /etc")
    info = upper.stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (0, 0, 0o755)
    assert [(upper / p).stat().st_uid for p in ("new", "d", "d/f", "etc")] == [0, 0, 33, 5]
    assert (upper / "new").read_text() == "hi\n"
    for work in box.layers.glob(".work*"):
        _wait_gone(box, work)


def test_build_stacks_on_a_build(box: Box) -> None:
    """Deletions, replaced directories and renames of lower things hold when the upper becomes a layer."""
    first = build(box, "one", "mkdir -p /p/q /r; echo 1 > /p/q/f; echo 1 > /gone; echo 1 > /r/old")
    second = build(box, "two", "rm /gone; rm -r /r; mkdir /r; echo 2 > /r/new; mv /p /moved", first)
    layers = (str(box.base), str(first), str(second))
    assert box.sh("ls /r; cat /moved/q/f; ls /gone /p", layers=layers).out == "new\n1\n"


def test_tmp_is_for_everybody(box: Box) -> None:
    layer = box.layer("tmp")
    (layer / "tmp").mkdir(mode=0o700)
    out = box.sh("stat -c %a:%u /tmp", layers=(str(box.base), str(layer))).out
    assert out == "1777:0\n"


def test_mounts_are_shown_and_held(box: Box) -> None:
    source = box.layer("shown")
    (source / "f").write_text("text")
    (source / "f").chmod(0o600)
    mount = Mount(str(source), "/deep/er/place")
    result = box.sh("cat /deep/er/place/f; echo x > /deep/er/place/f", mounts=(mount,))
    assert result.out == "text"
    assert "Read-only file system" in result.err
    options = box.sh("grep /deep/er/place /proc/mounts", mounts=(mount,)).out.split()[3].split(",")
    assert {"ro", "nosuid", "nodev"} <= set(options)


def test_one_file_may_be_mounted(box: Box) -> None:
    source = box.layer("single")
    (source / "f").write_text("text")
    for target in ("/etc/fresh.conf", "/new/dir/f"):
        assert box.sh(f"cat {target}", mounts=(Mount(str(source / "f"), target),)).out == "text"


def test_writable_mount_writes_through(box: Box) -> None:
    source = box.layer("through")
    mount = Mount(str(source), "/data", read_only=False)
    assert box.sh("echo hi > /data/f; stat -c %u /data/f", mounts=(mount,)).out == "0\n"
    assert (source / "f").read_text() == "hi\n"
    assert (source / "f").stat().st_uid == 0


@pytest.mark.parametrize("owner", [998, 999_000])
def test_what_an_agent_without_root_shows_is_open_as_its_bits_say(box: Box, owner: int) -> None:
    source = box.layer(f"agents-{owner}")
    (source / "closed").write_text("secret")
    (source / "closed").chmod(0o600)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(source / "s"))
        (source / "s").chmod(0o666)
        for path in (source, source / "closed", source / "s"):
            os.chown(path, owner, owner)
        door.listen()
        mount = Mount(str(source), "/run/agent")
        code = (
            "import socket; socket.socket(socket.AF_UNIX).connect('/run/agent/s'); open('/run/agent/closed')"
        )
        result = box.python(code, mounts=(mount,))
    assert "Permission denied: '/run/agent/closed'" in result.err
    assert "connect" not in result.err.splitlines()[-1]


def test_nothing_outside_the_allowed_directories_is_shown(box: Box) -> None:
    with pytest.raises(DriverError, match="'/etc/passwd' lies outside"):
        box.sh("true", mounts=(Mount("/etc/passwd", "/x"),))
    with pytest.raises(DriverError, match="writable by"):
        box.sh("true", mounts=(Mount("/usr/share", "/x", read_only=False),))
    with pytest.raises(DriverError, match="'/' lies outside"):
        box.sh("true", layers=("/",))
    with pytest.raises(DriverError, match="lies outside what the launcher makes writable"):
        box.sh("true", upper="/usr/evil")
    assert not os.path.exists("/usr/evil")


def test_missing_source_is_one_line(box: Box) -> None:
    with pytest.raises(DriverError, match="No such file or directory"):
        box.sh("true", mounts=(Mount(f"{box.layers}/nothing", "/x"),))


@pytest.mark.parametrize("target", ["/trap", "/trap/deeper", "/up/x", "/magic/x"])
def test_link_in_an_image_leads_no_mount_outside(box: Box, target: str, tmp_path: Path) -> None:
    """What a link of the image names is looked up in the image; the host keeps its own."""
    layer = box.layer(f"trap{target.replace('/', '-')}{tmp_path.name}")
    outside = tmp_path / "outside"
    outside.mkdir()
    (layer / "trap").symlink_to(outside)
    (layer / "up").symlink_to("../../../../../../.." + str(outside))
    (layer / "magic").symlink_to("/proc/self/root" + str(outside))
    source = box.layer(f"source{target.replace('/', '-')}{tmp_path.name}")
    (source / "f").write_text("inside")
    try:
        result = box.sh(
            f"cat {target}/f", layers=(str(box.base), str(layer)), mounts=(Mount(str(source), target),)
        )
        assert result.out in {"inside", ""}
    except DriverError as error:
        assert "cannot mount" in str(error)  # noqa: PT017
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["resolv.conf", "hosts", "hostname"])
def test_link_in_etc_gives_way(box: Box, name: str, tmp_path: Path) -> None:
    layer = box.layer(f"etc-{name}")
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (layer / "etc").mkdir()
    (layer / "etc" / name).symlink_to(victim)
    result = box.sh(f"test -f /etc/{name} && ! test -L /etc/{name}", layers=(str(box.base), str(layer)))
    assert result.status.code == 0
    assert victim.read_text() == "kept"


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "tmp", "etc"])
def test_link_in_place_of_a_system_directory(box: Box, name: str, tmp_path: Path) -> None:
    layer = box.layer(f"system-{name}")
    outside = tmp_path / "outside"
    outside.mkdir()
    (layer / name).symlink_to(outside)
    try:
        box.sh("true", layers=(str(box.base), str(layer)))
    except DriverError as error:
        assert "\n" not in str(error)  # noqa: PT017
    assert list(outside.iterdir()) == []
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755


@pytest.mark.parametrize("target", ["/thing", "/thing/x"])
def test_file_in_place_of_a_mount(box: Box, target: str) -> None:
    layer = box.layer(f"onfile{target.replace('/', '-')}")
    (layer / "thing").write_text("")
    with pytest.raises(DriverError, match=f"cannot mount at '{target}'"):
        box.sh("true", layers=(str(box.base), str(layer)), mounts=(Mount(str(box.base), target),))


def test_directory_in_place_of_a_file(box: Box) -> None:
    source = box.layer("ondir")
    (source / "f").write_text("")
    with pytest.raises(DriverError, match="cannot mount at '/etc': the image has a directory of that name"):
        box.sh("true", mounts=(Mount(str(source / "f"), "/etc"),))


def test_launcher_has_no_mounts_of_containers(box: Box) -> None:
    started = box.start("sleep", "600")
    with open(f"/proc/{box.process.pid}/mounts", encoding="utf-8") as mounts:
        assert [line for line in mounts if "overlay" in line and str(box.state) in line] == []
    box.do(box.runtime.kill(started.id))
    box.end(started)


def test_remove_deletes_what_containers_wrote(box: Box) -> None:
    upper = build(box, "doomed", "i=0; while [ $i -lt 300 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done")
    box.do(box.runtime.remove(str(upper)))
    assert not upper.exists()
    box.do(box.runtime.remove(str(box.layers / "never-there")))
    with pytest.raises(DriverError, match="lies outside"):
        box.do(box.runtime.remove("/usr/share"))


def _wait_gone(box: Box, path: Path) -> None:
    for _ in range(1000):
        if not path.exists():
            return
        box.sh("true")
    pytest.fail(f"{path} is still there")
