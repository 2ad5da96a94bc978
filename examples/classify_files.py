"""What kinds of files does this machine have? A deep-learning model tells, in containers.

    squall run examples/classify_files.py --folder /usr/lib --limit 2000

Magika (https://github.com/google/magika) looks at the beginning and the end of a file. Files are sent in
batches; of a file over 1 MiB, its first and last half MiB.
"""

from __future__ import annotations

import functools
import os
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import squall

if TYPE_CHECKING:
    from collections.abc import Iterator

app = squall.App("classify")
image = squall.Image.debian_slim().pip_install("magika")

with image.imports():
    from magika import Magika  # type: ignore[import-not-found,unused-ignore]

FILE_BYTES = 1 << 20
BATCH_FILES = 50
BATCH_BYTES = 8 << 20


@functools.cache
def model() -> Any:
    """Loaded once a container."""
    return Magika()


@app.function(image=image, cpu=1, max_containers=8)
def classify(blobs: list[bytes]) -> list[str]:
    return [str(model().identify_bytes(blob).output.label) for blob in blobs]


@app.local_entrypoint()
def main(folder: str = "/usr/lib", limit: int = 2000) -> None:
    paths = find(folder, limit)
    if not paths:
        raise SystemExit(f"There are no readable files in {folder}.")
    skipped: list[str] = []
    sent: deque[list[int]] = deque()
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    # Files are read while earlier ones are classified: results come in the order of the batches.
    for labels in classify.map(batched(paths, sent, skipped)):
        for label, size in zip(labels, sent.popleft(), strict=True):
            files[label] += 1
            sizes[label] += size
    show(files, sizes)
    if skipped:
        print(f"{len(skipped)} files could not be read, the first {skipped[0]}")


def find(folder: str, limit: int) -> list[str]:
    """Regular files below a folder, in the order of their names; symbolic links are not followed."""
    found: list[str] = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(root, name)
            if os.path.islink(path) or not os.path.isfile(path) or not os.access(path, os.R_OK):
                continue
            found.append(path)
            if len(found) == limit:
                return found
    return found


def batched(paths: list[str], sent: deque[list[int]], skipped: list[str]) -> Iterator[list[bytes]]:
    """Contents of files, so many at a time that neither files nor bytes are too many; sizes go to `sent`."""
    contents: list[bytes] = []
    sizes: list[int] = []
    for path in paths:
        try:
            data, size = read(path)
        except OSError:
            skipped.append(path)
            continue
        contents.append(data)
        sizes.append(size)
        if len(contents) == BATCH_FILES or sum(map(len, contents)) >= BATCH_BYTES:
            sent.append(sizes)
            yield contents
            contents, sizes = [], []
    if contents:
        sent.append(sizes)
        yield contents


def read(path: str) -> tuple[bytes, int]:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if size <= FILE_BYTES:
            return file.read(), size
        head = file.read(FILE_BYTES // 2)
        file.seek(-FILE_BYTES // 2, os.SEEK_END)
        return head + file.read(), size


def show(files: Counter[str], sizes: Counter[str]) -> None:
    width = max(len(label) for label in [*files, "total"])
    print(f"{'kind':<{width}}  {'files':>7}  {'bytes':>14}")
    for label, count in files.most_common():
        print(f"{label:<{width}}  {count:>7}  {sizes[label]:>14}")
    print(f"{'total':<{width}}  {files.total():>7}  {sizes.total():>14}")
