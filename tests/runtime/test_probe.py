"""The choice of a driver, by what works here and by what the user says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from squall.runtime import probe
from squall.runtime.driver import DriverError
from squall.runtime.probe import Choice, choose, explained, probe_namespaces

if TYPE_CHECKING:
    from pathlib import Path


def test_not_root_has_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert choose(None, tmp_path) == Choice(
        "process", "containers need root on this machine; start the node as root"
    )
    with pytest.raises(DriverError, match="the namespaces driver does not work here: containers need root"):
        choose("namespaces", tmp_path)


def test_process_driver_may_be_chosen(tmp_path: Path) -> None:
    assert choose("process", tmp_path) == Choice("process", "it was chosen")


def test_unknown_driver_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="no driver 'docker': choose 'namespaces' or 'process'"):
        choose("docker", tmp_path)


@pytest.mark.parametrize("release", ["5.15.0-91-generic", "5.18", "4.19.0-27-amd64"])
def test_old_kernel_is_the_reason(release: str) -> None:
    text = explained("mount_setattr: Function not implemented", release, "nodev\toverlay\n")
    assert text == f"containers need Linux 5.19 or newer, and this is {release}"


@pytest.mark.parametrize("release", ["5.19.0", "6.1.0-56-cloud-amd64", "6.18.5", "10.0"])
def test_missing_overlay_is_the_reason(release: str) -> None:
    text = explained("the kernel refuses", release, "nodev\tsysfs\n\text4\n")
    assert text == "the kernel has no overlay file system; as root on the host: modprobe overlay"


def test_other_reasons_stay() -> None:
    assert explained("no cookies", "6.1.0", "nodev\toverlay\n\text4\n") == "no cookies"


@pytest.mark.root
def test_missing_state_directory_has_a_reason(namespaces: Path) -> None:
    reason = probe_namespaces(namespaces / "none")
    assert reason == f"the state directory {namespaces}/none is not writable: No such file or directory"


@pytest.mark.root
def test_launcher_that_cannot_work_has_a_reason(namespaces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SYSTEM_DIRECTORIES", ())
    reason = probe_namespaces(namespaces)
    assert reason == "cannot run 'true': No such file or directory"


@pytest.mark.root
def test_trial_leaves_nothing(namespaces: Path) -> None:
    assert probe_namespaces(namespaces) is None
    assert list(namespaces.glob("probe-*")) == []
