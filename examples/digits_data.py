"""Handwritten digits as 32x32 images: scikit-learn's 1,797, or MNIST's own files."""
from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import shutil
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from program import DataError

SIZE = 32

# MNIST's four files and the SHA-256 of their contents once unpacked, so that a file may lie there
# as it is downloaded (.gz), packed anew, or unpacked.
MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = [
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
]


@dataclass
class Digits:
    """Grey images (n, 1, 32, 32), float32 from 0 (paper) to 1 (ink), and their labels (n,)."""

    title: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def shortened(self, train: int, test: int) -> Digits:
        """The first ``train`` and ``test`` images only."""
        return Digits(self.title, self.train_images[:train], self.train_labels[:train],
                      self.test_images[:test], self.test_labels[:test])


def scikit_learn_digits() -> Digits:
    """scikit-learn's digits, enlarged from 8x8; a fifth of every class is held out for the test.

    The split is always the same, so that runs with different seeds can be compared.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    images = enlarge(raw.images / 16.0, SIZE).astype(np.float32)[:, None]
    labels = raw.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=0)
    return Digits("scikit-learn's digits", train_x, train_y, test_x, test_y)


def enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """(n, h, w) to (n, size, size), bilinear; pixels are areas, and the border is repeated."""
    rows, columns = _weights(images.shape[1], size), _weights(images.shape[2], size)
    return rows @ images @ columns.T


def _weights(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) that interpolates linearly between the centres of ``old`` cells."""
    centre = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.minimum(centre.astype(int), old - 2)
    share = centre - left
    weights = np.zeros((new, old))
    weights[np.arange(new), left] = 1 - share
    weights[np.arange(new), left + 1] = share
    return weights


def mnist(folder: Path) -> Digits:
    """MNIST's 60,000 and 10,000 digits in a border of two pixels; what isn't there is downloaded.

    Raises DataError if a file is corrupt or can't be had; the message names all four.
    """
    train_x, train_y, test_x, test_y = (_idx(_contents(folder, name)) for name in MNIST)
    border = ((0, 0), (2, 2), (2, 2))
    return Digits("MNIST",
                  np.pad(train_x, border).astype(np.float32)[:, None] / 255,
                  train_y.astype(np.int64),
                  np.pad(test_x, border).astype(np.float32)[:, None] / 255,
                  test_y.astype(np.int64))


def _contents(folder: Path, name: str) -> bytes:
    """A file's contents, unpacked and checked; downloaded first if it isn't there."""
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.exists() else packed
    if not path.exists():
        _download(packed, name)
    contents = _unpacked(path)
    if not _is_intact(contents, name):
        raise DataError(f"{path} is corrupt: unpacked, its SHA-256 is not {MNIST[name]}.\n"
                        f"Delete it and start again, and it is downloaded anew.\n{_wanted(folder)}")
    return contents


def _unpacked(path: Path) -> bytes:
    """What is in a plain or gzipped file; nothing if it can't be unpacked."""
    contents = path.read_bytes()
    if contents[:2] != b"\x1f\x8b":
        return contents
    try:
        return gzip.decompress(contents)
    except (OSError, EOFError, zlib.error):
        return b""


def _is_intact(contents: bytes, name: str) -> bool:
    return hashlib.sha256(contents).hexdigest() == MNIST[name]


def _idx(contents: bytes) -> np.ndarray:
    """An array in idx format: two zeros, a type (8 is bytes), the number of dims, sizes, data."""
    ndim = contents[3]
    shape = np.frombuffer(contents, ">i4", ndim, offset=4)
    return np.frombuffer(contents, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def _download(path: Path, name: str) -> None:
    """Fetch a gzipped file by way of ``<path>.part``, which a later try goes on with."""
    part = path.with_name(path.name + ".part")
    problems = []
    for mirror in MIRRORS:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _fetch(mirror + path.name, part)
        except (OSError, http.client.HTTPException) as problem:
            problems.append(f"  {mirror}: {problem}")
            continue
        if _is_intact(_unpacked(part), name):
            os.replace(part, path)
            return
        part.unlink()
        problems.append(f"  {mirror}: what it sent has the wrong checksum")
    raise DataError("\n".join([f"{path} is missing and can't be downloaded:", *problems,
                               _wanted(path.parent)]))


def _fetch(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks of the file at ``url``; OSError if that breaks off."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as problem:
        if problem.code == 416:       # nothing lies beyond what we have
            return
        raise
    with response, open(part, "ab" if response.status == 206 else "wb") as file:
        start = file.tell()
        shutil.copyfileobj(response, file)
        came, length = file.tell() - start, response.headers["Content-Length"]
        if length is not None and came < int(length):
            raise ConnectionError(f"broke off after {came:,} of {int(length):,} bytes")


def _wanted(folder: Path) -> str:
    return "\n".join([f"MNIST is these four files in {folder}, unpacked or not:",
                      *(f"  {name}.gz" for name in MNIST)])
