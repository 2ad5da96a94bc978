"""Which GPUs this machine has, as the NVIDIA kernel driver tells (/proc/driver/nvidia). No library is loaded.

Types are the names that functions ask for (`gpu="H100"`): the model without vendor, memory and form factor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: Where a container finds the driver's libraries and programs.
DRIVER_FILES = "/squall/nvidia"

_VENDOR = ("NVIDIA", "TESLA", "GEFORCE", "QUADRO")
#: With one of these begins what does not tell types apart.
_FORM = re.compile(
    r"\d+GB|PCIE|SXM\d*|NVL|HBM\d\w*|BLACKWELL|ADA|LAPTOP|SERVER|WORKSTATION|MAX-Q", re.IGNORECASE
)
_SIZE = re.compile(r"(\d+)GB", re.IGNORECASE)
#: Sold in sizes that functions tell apart.
_BY_SIZE = ("A100",)
_ALIASES = {"A10G": "A10"}


@dataclass(frozen=True)
class Gpu:
    """One device. `minor` names its node, /dev/nvidia<minor>; `uuid` is what CUDA_VISIBLE_DEVICES takes."""

    minor: int
    type: str
    uuid: str


def found(root: Path = Path("/")) -> list[Gpu]:
    """The GPUs that the driver has, by minor; none where there is no driver."""
    gpus = []
    for information in root.glob("proc/driver/nvidia/gpus/*/information"):
        try:
            gpu = parse(information.read_text("utf-8", "replace"))
        except OSError:
            continue  # unplugged between the two
        if gpu is not None:
            gpus.append(gpu)
    return sorted(gpus, key=lambda gpu: gpu.minor)


def parse(information: str) -> Gpu | None:
    """From the driver's `information` file of a device; None where it names no node. Pure."""
    fields = {}
    for line in information.splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    minor = fields.get("Device Minor", "")
    if not minor.isdecimal():
        return None
    return Gpu(int(minor), type_of(fields.get("Model", "")), fields.get("GPU UUID", ""))


def type_of(model: str) -> str:
    """`NVIDIA A100-SXM4-80GB` is an `A100-80GB`, `NVIDIA H100 80GB HBM3` an `H100`. Pure."""
    words = [w for w in re.split(r"[\s-]+", model.upper()) if w and w not in _VENDOR]
    kept: list[str] = []
    for word in words:
        if kept and _FORM.fullmatch(word):
            break
        kept.append(word)
    name = "-".join(kept) or "GPU"
    name = _ALIASES.get(name, name)
    size = _SIZE.search(model)
    return f"{name}-{size[1]}GB" if name in _BY_SIZE and size else name
