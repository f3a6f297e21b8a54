"""Small colour images in ten classes: CIFAR-10's own files, or shapes drawn on the spot."""
from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from program import DataError

SIZE = 32
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PAGE = "https://www.cs.toronto.edu/~kriz/"


class Form(NamedTuple):
    """One of the two forms in which CIFAR-10 comes."""

    archive: str
    folder: str
    files: dict[str, str]       # name to checksum: the last is the test's, the others training's
    hash: str


# Checksums: of the binary files SHA-256, of the pickled ones MD5, which is what is known of them.
FORMS = [
    Form("cifar-10-binary.tar.gz", "cifar-10-batches-bin", {
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    }, "sha256"),
    Form("cifar-10-python.tar.gz", "cifar-10-batches-py", {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }, "md5"),
]


@dataclass
class Images:
    """Images (n, 3, 32, 32) as bytes, their labels (n,), and the classes' names."""

    title: str
    names: list[str]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def cifar10(folder: Path) -> Images:
    """CIFAR-10 from ``folder``: archives as they are downloaded, or what was unpacked of one.

    Raises DataError if a file is missing or corrupt; the message says what is wanted.
    """
    for form in FORMS:
        contents = _unpacked(folder, form) or _archived(folder / form.archive, form)
        if contents:
            break
    else:
        raise DataError(f"CIFAR-10 is not in {folder}.\n{_wanted(folder)}")
    batches = []
    for name, checksum in form.files.items():
        path, content = contents[name]
        if hashlib.new(form.hash, content).hexdigest() != checksum:
            raise DataError(f"{path} is corrupt: its {form.hash.upper()} is not {checksum}.\n"
                            f"Fetch it anew.\n{_wanted(folder)}")
        batches.append(_rows(content) if name.endswith(".bin") else _pickled(content))
    images, labels = zip(*batches)
    return Images("CIFAR-10", NAMES, np.concatenate(images[:-1]), np.concatenate(labels[:-1]),
                  images[-1], labels[-1])


def _unpacked(folder: Path, form: Form) -> dict[str, tuple[Path, bytes]]:
    """Path and content of each file, if they all lie in the folder or in the form's own below."""
    for place in folder, folder / form.folder:
        paths = {name: place / name for name in form.files}
        if all(path.is_file() for path in paths.values()):
            return {name: (path, path.read_bytes()) for name, path in paths.items()}
    return {}


def _archived(archive: Path, form: Form) -> dict[str, tuple[Path, bytes]]:
    """The same, if the archive is there."""
    if not archive.is_file():
        return {}
    found = {}
    try:
        with tarfile.open(archive, "r:*") as members:
            for member in members:
                name = Path(member.name).name
                content = members.extractfile(member) if name in form.files else None
                if content is not None:
                    found[name] = (archive / form.folder / name, content.read())
    except (OSError, EOFError, zlib.error, tarfile.TarError) as problem:
        raise DataError(f"{archive} is corrupt: {problem}.\nFetch it anew.\n"
                        f"{_wanted(archive.parent)}") from None
    if len(found) < len(form.files):
        raise DataError(f"{archive} is corrupt: {min(set(form.files) - set(found))} is not in it.\n"
                        f"Fetch it anew.\n{_wanted(archive.parent)}")
    return found


def _rows(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Binary form: for each image a byte for the label, then red, green and blue by rows."""
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * SIZE * SIZE)
    return rows[:, 1:].reshape(-1, 3, SIZE, SIZE), rows[:, 0].astype(np.int64)


def _pickled(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Python's form: a pickled dict of an array (n, 3072) and a list of labels."""
    batch = _Arrays(io.BytesIO(content), encoding="bytes").load()
    return batch[b"data"].reshape(-1, 3, SIZE, SIZE), np.array(batch[b"labels"], np.int64)


class _Arrays(pickle.Unpickler):
    """Reads arrays, and nothing that could run a program."""

    def find_class(self, module: str, name: str) -> Any:
        known = {"_reconstruct": lambda kind, shape, dtype: np.empty(0, np.uint8),
                 "ndarray": np.ndarray, "dtype": np.dtype}
        if module.split(".")[0] == "numpy" and name in known:
            return known[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in CIFAR-10")


def _wanted(folder: Path) -> str:
    lines = [f"Put one of these archives there, or its files unpacked in {folder} or in the "
             f"archive's own folder below it:"]
    for form in FORMS:
        lines += [f"  {PAGE}{form.archive}", f"    {', '.join(form.files)}"]
    return "\n".join([*lines, "Or try --synthetic, which needs no files."])


# Shapes ------------------------------------------------------------------------------------------

SHAPES = ["disc", "square", "triangle", "ring", "cross"]


def shapes(train: int, test: int, seed: int = 0) -> Images:
    """Five shapes, each in warm and in cold colours, of any size, place and turn, among noise."""
    rng = np.random.default_rng(seed)
    names = [f"{colour} {shape}" for shape in SHAPES for colour in ("warm", "cold")]
    labels = [rng.permutation(np.arange(n) % 10) for n in (train, test)]
    images = [np.stack([_drawn(rng, label) for label in each]) for each in labels]
    return Images("coloured shapes", names, images[0], labels[0], images[1], labels[1])


def _drawn(rng: np.random.Generator, label: int) -> np.ndarray:
    """One image (3, 32, 32) in bytes."""
    radius, angle = rng.uniform(7, 11.5), rng.uniform(-0.5, 0.5)
    centre = rng.uniform(radius - 2, SIZE - radius + 1, 2)
    y, x = (np.mgrid[:SIZE, :SIZE] - centre[:, None, None]) / radius
    x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = np.clip(0.5 - _distance(SHAPES[label // 2], x, y) * radius, 0, 1)     # smooth edges
    hue = rng.uniform(-0.06, 0.14) if label % 2 == 0 else rng.uniform(0.45, 0.72)
    ground = _colour(rng.uniform(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.9))
    light = 1 + 0.25 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1))[None]
    shape = _colour(hue, rng.uniform(0.6, 1), rng.uniform(0.6, 1))
    image = (inside * shape + (1 - inside) * ground) * light + rng.normal(0, 0.05, (3, SIZE, SIZE))
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """About how far a point is outside of a shape of radius 1; negative inside."""
    if shape == "disc":
        return np.hypot(x, y) - 0.9
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.8
    if shape == "triangle":
        return np.maximum(0.87 * abs(x) - 0.5 * y, y) - 0.5
    if shape == "ring":
        return abs(np.hypot(x, y) - 0.72) - 0.22
    arms = np.minimum(np.maximum(abs(x) - 0.28, abs(y) - 0.95),
                      np.maximum(abs(y) - 0.28, abs(x) - 0.95))
    return arms


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """Hue, saturation and value from 0 to 1 as red, green and blue (3, 1, 1)."""
    around = np.clip(abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation * (1 - around)))[:, None, None]
