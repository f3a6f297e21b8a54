"""Data sets by torchvision's names, read from their own files; reading them runs nothing.

A sample's image is a PIL image; where Pillow isn't installed, it is a tensor (C, H, W) of bytes,
which the transforms take as well. ``tensors()`` gives a whole set at once.
"""
from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

import gpugrad as torch
from gpugrad.serialization.unpickler import Builder, Unpickler
from gpugrad.utils.data import Dataset
from gpugrad.vision.download import check_integrity, fetch, written
from gpugrad.vision.transforms import functional as F

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class StandardTransform:
    """A transform of images and one of targets, as one of both."""

    def __init__(self, transform: Any = None, target_transform: Any = None) -> None:
        self.transform, self.target_transform = transform, target_transform

    def __call__(self, input: Any, target: Any) -> tuple[Any, Any]:
        return (input if self.transform is None else self.transform(input),
                target if self.target_transform is None else self.target_transform(target))

    def __repr__(self) -> str:
        lines = [type(self).__name__]
        for head, transform in (("Transform: ", self.transform),
                                ("Target transform: ", self.target_transform)):
            if transform is not None:
                lines.append(head + repr(transform).replace("\n", "\n" + " " * len(head)))
        return "\n".join(lines)


class VisionDataset(Dataset[Any]):
    """The base of all: samples (image, target), which subclasses keep in data and targets."""

    data: Any
    targets: Any

    def __init__(self, root: Any = None, transforms: Callable[..., Any] | None = None,
                 transform: Callable[..., Any] | None = None,
                 target_transform: Callable[..., Any] | None = None) -> None:
        self.root = os.path.expanduser(root) if isinstance(root, str) else root
        if transform is not None or target_transform is not None:
            if transforms is not None:
                raise ValueError("Only transforms or transform/target_transform can be passed as "
                                 "argument")
            transforms = StandardTransform(transform, target_transform)
        self.transform, self.target_transform = transform, target_transform
        self.transforms = transforms

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        return self._sample(np.asarray(self.data[index]), int(self.targets[index]))

    def _sample(self, image: Any, target: Any) -> tuple[Any, Any]:
        """The sample of an image, or of its bytes (H, W) or (H, W, 3)."""
        if isinstance(image, np.ndarray):
            pillow = F.pillow()
            image = (torch.from_numpy(np.atleast_3d(image).transpose(2, 0, 1).copy())
                     if pillow is None else pillow.fromarray(np.ascontiguousarray(image)))
        return StandardTransform(self.transform, self.target_transform)(image, target)

    def __len__(self) -> int:
        return len(self.data)

    def tensors(self, device: Any = None) -> tuple[Any, Any]:
        """All images (N, C, H, W), floats from 0 to 1, and targets (N,), without transforms.

        In a TensorDataset their batches cost little; transforms of batches can do the rest.
        """
        if not hasattr(self, "data"):
            raise NotImplementedError(f"{type(self).__name__}.tensors: images are read one by one; "
                                      "go through a DataLoader")
        images = torch.as_tensor(self.data, device=device)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
        return F.to_tensor(images.contiguous()), torch.as_tensor(self.targets, device=device)

    def __repr__(self) -> str:
        lines = [f"Dataset {type(self).__name__}", f"Number of datapoints: {len(self)}"]
        if self.root is not None:
            lines.append(f"Root location: {self.root}")
        lines += self.extra_repr().splitlines()
        return "\n    ".join(lines + [repr(self.transforms)] * (self.transforms is not None))

    def extra_repr(self) -> str:
        """More lines for the repr."""
        return f"Split: {'Train' if self.train else 'Test'}" if hasattr(self, "train") else ""


# MNIST and what comes in its format --------------------------------------------------------------

def _idx(path: Path, ndim: int) -> Any:
    """The bytes in a file of idx format, gzipped or not; RuntimeError for anything else.

    The format: two zeros, a type (8 is bytes), the number of dims, their sizes, the numbers.
    """
    content = path.read_bytes()
    try:
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as problem:
        raise RuntimeError(f"{path} is corrupt: {problem}") from None
    shape = np.frombuffer(content[4:4 + 4 * ndim].ljust(4 * ndim), ">u4").tolist()
    numbers = np.frombuffer(bytearray(content[4 + 4 * ndim:]), np.uint8)
    if content[:4] != bytes([0, 0, 8, ndim]) or len(numbers) != np.prod(shape, dtype=object):
        raise RuntimeError(f"{path} is corrupt: {len(content):,} bytes that begin with "
                           f"{content[:4 + 4 * ndim]!r} are no idx file of bytes in {ndim} dims")
    return torch.from_numpy(numbers.reshape(shape))


class MNIST(VisionDataset):
    """Handwritten digits, (28, 28): 60,000 to learn from, and 10,000.

    root: the folder; files lie in root/MNIST/raw, or in root itself, gzipped or not.
    download: whether to fetch what isn't there. RuntimeError if it can't be had or is corrupt.
    """

    mirrors = ["https://ossci-datasets.s3.amazonaws.com/mnist/",
               "https://storage.googleapis.com/cvdf-datasets/mnist/"]
    resources = [("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                 ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
                 ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
                 ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c")]
    classes = ["0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six",
               "7 - seven", "8 - eight", "9 - nine"]

    def __init__(self, root: Any, train: bool = True, transform: Any = None,
                 target_transform: Any = None, download: bool = False) -> None:
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.train = train
        if download:
            self.download()
        images, labels = (self._path(name) for name, _ in self.resources[0 if train else 2:][:2])
        if images is None or labels is None:
            raise RuntimeError("Dataset not found. You can use download=True to download it, or "
                               f"put its files into {self.raw_folder}: "
                               f"{', '.join(name for name, _ in self.resources)}")
        self.data, self.targets = _idx(images, 3), _idx(labels, 1).long()
        if len(self.data) != len(self.targets):
            raise RuntimeError(f"{images} has {len(self.data)} images, but {labels} "
                               f"{len(self.targets)} labels")

    @property
    def raw_folder(self) -> str:
        """Where the files are, or shall be."""
        return os.path.join(self.root, type(self).__name__, "raw")

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class."""
        return {name: i for i, name in enumerate(self.classes)}

    def _path(self, name: str) -> Path | None:
        paths = (Path(folder, x) for folder in (self.raw_folder, self.root)
                 for x in (name.removesuffix(".gz"), name))
        return next((path for path in paths if path.is_file()), None)

    def download(self) -> None:
        """Fetch the files that aren't there, and unpack them."""
        for name, checksum in self.resources:
            packed = Path(self.raw_folder, name)
            if self._path(packed.stem) is None and not Path(self.root, name).is_file():
                if not check_integrity(packed, checksum):
                    fetch([mirror + name for mirror in self.mirrors], packed, checksum)
                written(packed.with_suffix(""), gzip.decompress(packed.read_bytes()))


class FashionMNIST(MNIST):
    """Pictures of clothes, in MNIST's format."""

    mirrors = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
               "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"]
    resources = [("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                 ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
                 ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
                 ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310")]
    classes = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
               "Bag", "Ankle boot"]


class KMNIST(MNIST):
    """Cursive Japanese characters, in MNIST's format."""

    mirrors = ["http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
               "https://codh.rois.ac.jp/kmnist/dataset/kmnist/"]
    resources = [("train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7"),
                 ("train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344"),
                 ("t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7"),
                 ("t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134")]
    classes = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]


class Digits(VisionDataset):
    """scikit-learn's 1,797 digits, (8, 8): a fifth of each class is the test's, always the same.

    They come with scikit-learn; ImportError where that isn't installed.
    """

    classes = [str(i) for i in range(10)]
    class_to_idx = {name: i for i, name in enumerate(classes)}

    def __init__(self, train: bool = True, transform: Any = None,
                 target_transform: Any = None) -> None:
        super().__init__(transform=transform, target_transform=target_transform)
        self.train = train
        try:
            from sklearn.datasets import load_digits
            from sklearn.model_selection import train_test_split
        except ImportError as error:
            raise ImportError("Digits come with scikit-learn: pip install scikit-learn") from error
        raw = load_digits()
        images, self.targets = train_test_split(
            raw.images, raw.target, test_size=0.2, stratify=raw.target,
            random_state=0)[0 if train else 1::2]
        self.data = np.rint(images * (255 / 16)).astype(np.uint8)       # they go from 0 to 16

    def tensors(self, device: Any = None) -> tuple[Any, Any]:
        images, targets = super().tensors(device)
        return (images * 16).round() / 16, targets


# CIFAR -------------------------------------------------------------------------------------------

class _Python2(Unpickler):
    """Strings of Python 2 are bytes: as Latin-1, each stays what it was."""

    def _text(self, form: str) -> None:
        if self._data[self._at - 1:self._at] in (b"U", b"T"):
            self._push(self._take(self._number(form)).decode("latin-1"))
        else:
            super()._text(form)


class _Array:
    """Stands for an array of bytes while a pickle is read."""

    pixels: Any = None

    def filled(self, shape: Any, order: str, raw: Any) -> _Array:
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw
        self.pixels = np.frombuffer(raw, np.uint8).reshape(shape, order=order)  # type: ignore
        return self


def _unpickled(content: bytes) -> dict[str, Any]:
    """The dict in a batch; UnpicklingError for anything but arrays of bytes, texts and numbers."""
    def dtype(name: Any, *_: Any) -> str:
        if name not in ("u1", "|u1"):
            raise UnpicklingError(f"an array of {name}, not of bytes")
        return "u1"

    known = {"_reconstruct": Builder(lambda *_: _Array()), "dtype": Builder(dtype), "ndarray": None,
             "encode": Builder(lambda text, _: text.encode("latin-1")),
             "_frombuffer": Builder(
                 lambda raw, _, shape, order: _Array().filled(shape, order, raw))}

    def find(module: str, name: str) -> Any:
        if module.split(".")[0] not in ("numpy", "_codecs") or name not in known:
            raise UnpicklingError(f"{module}.{name} has no place in a batch of images")
        return known[name]

    def build(made: Any, state: Any) -> bool:
        if isinstance(made, _Array):
            _, shape, _, by_columns, raw = state
            made.filled(shape, "F" if by_columns else "C", raw)
        return isinstance(made, (_Array, str))           # of a dtype, nothing is left to set

    found = _Python2(content, find, lambda _: None, build).load()
    if not isinstance(found, dict):
        raise UnpicklingError("a batch is a dict")
    return found


class CIFAR10(VisionDataset):
    """Small photographs, (32, 32, 3), in ten classes: 50,000 to learn from, and 10,000.

    root: the folder, with the archive as it comes, or with what was unpacked of it, in
    root/cifar-10-batches-py or root itself.
    download: whether to fetch what isn't there. RuntimeError if it can't be had or is corrupt.
    """

    base_folder = "cifar-10-batches-py"
    filename = "cifar-10-python.tar.gz"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    mirrors = ["https://dataset.bj.bcebos.com/cifar/"]
    tgz_md5 = "c58f30108f718f92721af3b95e74349a"
    train_list = [["data_batch_1", "c99cafc152244af753f735de768cd75f"],
                  ["data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"],
                  ["data_batch_3", "54ebc095f3ab1f0389bbae665268c751"],
                  ["data_batch_4", "634d18415352ddfa80567beed471001a"],
                  ["data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"]]
    test_list = [["test_batch", "40351d587109b95175f43aff81a1287e"]]
    meta = {"filename": "batches.meta", "key": "label_names",
            "md5": "5ff9c542aee3614f3951f8cda6e48888"}

    def __init__(self, root: Any, train: bool = True, transform: Any = None,
                 target_transform: Any = None, download: bool = False) -> None:
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.train = train
        if download:
            self.download()
        used = self._files(self.train_list if train else self.test_list)
        folder = next((x for x in (Path(self.root, self.base_folder), Path(self.root))
                       if all((x / name).is_file() for name in used)), None)
        contents = self._archived(used) if folder is None else {
            name: (folder / name).read_bytes() for name in used}
        for name, checksum in used.items():
            if name not in contents:
                raise RuntimeError("Dataset not found or corrupted. You can use download=True to "
                                   f"download it: there is no {name} in {root}, in its folder "
                                   f"{self.base_folder}, or in {self.filename} there")
            if checksum and md5(contents[name], usedforsecurity=False).hexdigest() != checksum:
                raise RuntimeError(f"Dataset not found or corrupted: the MD5 of {name} in "
                                   f"{folder or self.filename} is not {checksum}. Delete it, and "
                                   "use download=True")
        *batches, meta = (_unpickled(contents[name]) for name in used)
        pixels = np.concatenate([batch["data"].pixels for batch in batches])
        self.data = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        self.targets = [label for batch in batches
                        for label in batch.get("labels") or batch["fine_labels"]]
        self.classes = meta[self.meta["key"]]
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}

    def _files(self, *lists: Any) -> dict[str, Any]:
        """Names and checksums of those in the lists, and of that with the classes."""
        return {**{name: checksum for files in lists for name, checksum in files},
                self.meta["filename"]: self.meta["md5"]}

    def _archived(self, wanted: dict[str, Any]) -> dict[str, bytes]:
        """The files in the archive by name; nothing if there is none."""
        path, found = Path(self.root, self.filename), {}
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = os.path.basename(member.name)
                    if name in wanted and member.isfile():
                        found[name] = archive.extractfile(member).read()  # type: ignore[union-attr]
        except FileNotFoundError:
            pass
        except (OSError, EOFError, zlib.error, tarfile.TarError) as problem:
            raise RuntimeError(f"{path} is corrupt: {problem}. Delete it, and use "
                               "download=True") from None
        return found

    def download(self) -> None:
        """Fetch the archive if need be, and unpack it."""
        folder, archive = Path(self.root, self.base_folder), Path(self.root, self.filename)
        files = self._files(self.train_list, self.test_list)
        if not all(check_integrity(folder / name, checksum) for name, checksum in files.items()):
            if not check_integrity(archive, self.tgz_md5):
                fetch([self.url, *(mirror + self.filename for mirror in self.mirrors)], archive,
                      self.tgz_md5)
            for name, content in self._archived(files).items():
                written(folder / name, content)


class CIFAR100(CIFAR10):
    """CIFAR-10's sister with a hundred classes."""

    base_folder = "cifar-100-python"
    filename = "cifar-100-python.tar.gz"
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    tgz_md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    train_list = [["train", "16019d7e3df5f24257cddd939b257f8d"]]
    test_list = [["test", "f0ef6b0ae62326f3e7ffdfab6717acfc"]]
    meta = {"filename": "meta", "key": "fine_label_names",
            "md5": "7973b15100ade9c7d40fb424638fde48"}


# Folders, and noise ------------------------------------------------------------------------------

def default_loader(path: Any) -> Any:
    """The image in a file, as a PIL image in RGB."""
    if F.pillow() is None:
        raise ImportError("ImageFolder reads images by Pillow (pip install pillow) unless it is "
                          "given a loader")
    with open(path, "rb") as file:
        return F.pillow().open(file).convert("RGB")


class DatasetFolder(VisionDataset):
    """What ``loader`` makes of the files in the folders of a folder; each folder is a class.

    A file counts if it ends in one of ``extensions``, or if ``is_valid_file(path)``.
    """

    def __init__(self, root: Any, loader: Callable[[str], Any],
                 extensions: tuple[str, ...] | None = None, transform: Any = None,
                 target_transform: Any = None, is_valid_file: Any = None,
                 allow_empty: bool = False) -> None:
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.classes, self.class_to_idx = self.find_classes(self.root)
        self.samples = self.make_dataset(self.root, self.class_to_idx, extensions, is_valid_file,
                                         allow_empty)
        self.loader, self.extensions = loader, extensions
        self.targets = [number for _, number in self.samples]

    def find_classes(self, directory: Any) -> tuple[list[str], dict[str, int]]:
        """The names of the folders in a folder, and their numbers."""
        classes = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())
        if not classes:
            raise FileNotFoundError(f"Couldn't find any class folder in {directory}.")
        return classes, {name: i for i, name in enumerate(classes)}

    @staticmethod
    def make_dataset(directory: Any, class_to_idx: dict[str, int], extensions: Any = None,
                     is_valid_file: Any = None,
                     allow_empty: bool = False) -> list[tuple[str, int]]:
        """(path, class) of all files that count, below the classes' folders."""
        if not class_to_idx:
            raise ValueError("'class_to_index' must have at least one entry to collect any "
                             "samples.")
        if (extensions is None) == (is_valid_file is None):
            raise ValueError("Both extensions and is_valid_file cannot be None or not None at the "
                             "same time")
        endings = (extensions,) if isinstance(extensions, str) else tuple(extensions or ())
        counts = is_valid_file or (lambda path: path.lower().endswith(endings))
        found = [(path, number) for name, number in sorted(class_to_idx.items())
                 for folder, _, files in sorted(os.walk(os.path.join(directory, name),
                                                        followlinks=True))
                 for path in (os.path.join(folder, file) for file in sorted(files))
                 if counts(path)]
        full = {number for _, number in found}
        empty = sorted(name for name, number in class_to_idx.items() if number not in full)
        if empty and not allow_empty:
            raise FileNotFoundError(
                f"Found no valid file for the classes {', '.join(empty)}. "
                + (f"Supported extensions are: {', '.join(endings)}" if endings else ""))
        return found

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        path, target = self.samples[index]
        return StandardTransform(self.transform, self.target_transform)(self.loader(path), target)

    def __len__(self) -> int:
        return len(self.samples)


class ImageFolder(DatasetFolder):
    """The images root/class/... , read by Pillow."""

    def __init__(self, root: Any, transform: Any = None, target_transform: Any = None,
                 loader: Callable[[str], Any] = default_loader, is_valid_file: Any = None,
                 allow_empty: bool = False) -> None:
        super().__init__(root, loader, IMG_EXTENSIONS if is_valid_file is None else None,
                         transform, target_transform, is_valid_file, allow_empty)
        self.imgs = self.samples


class FakeData(VisionDataset):
    """Noise with random labels: the same for the same index and ``random_offset``."""

    def __init__(self, size: int = 1000, image_size: tuple[int, int, int] = (3, 224, 224),
                 num_classes: int = 10, transform: Any = None, target_transform: Any = None,
                 random_offset: int = 0) -> None:
        super().__init__(transform=transform, target_transform=target_transform)
        self.size, self.image_size, self.num_classes = size, image_size, num_classes
        self.random_offset = random_offset

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        if index >= len(self):
            raise IndexError(f"{type(self).__name__} index out of range")
        generator = torch.Generator().manual_seed(index + self.random_offset)
        noise = torch.randn(self.image_size, generator=generator).numpy().transpose(1, 2, 0)
        target = torch.randint(self.num_classes, (1,), generator=generator).item()
        # By way of larger integers, since what a number beyond 255 becomes is undefined.
        pixels = (noise * 255).astype(np.int64).astype(np.uint8)
        return self._sample(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, target)

    def __len__(self) -> int:
        return self.size
