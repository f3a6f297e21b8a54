"""Data sets: their files as they come, unpacked or not, fetched, damaged or malicious."""
from __future__ import annotations

import gzip
import os
import pickle
import re
import sys

import numpy as np
import pytest
from vision_files import (
    NOWHERE,
    archive,
    cifar_batches,
    cifar_files,
    idx,
    md5,
    mnist_arrays,
    mnist_files,
    put_mnist,
    serving,
)

import gpugrad as torch
from gpugrad.utils.data import DataLoader, TensorDataset
from gpugrad.vision import datasets, transforms
from gpugrad.vision.transforms import functional as F

try:
    from PIL import Image
except ImportError:
    Image = None
needs_pillow = pytest.mark.skipif(Image is None, reason="Pillow is not installed")


@pytest.fixture(params=[pytest.param(True, marks=needs_pillow), False], ids=["PIL", "no PIL"])
def pillow(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(F, "pillow", lambda: None)
    return request.param


# MNIST -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST", "KMNIST"])
@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("deep", [True, False], ids=["raw", "root"])
def test_mnist_reads_its_files(tmp_path, kind, packed, deep):
    arrays = mnist_arrays()
    put_mnist(tmp_path / kind / "raw" if deep else tmp_path, arrays, packed)
    for train in True, False:
        data = getattr(datasets, kind)(tmp_path, train)
        images, labels = arrays[:2] if train else arrays[2:]
        np.testing.assert_array_equal(data.data.numpy(), images)
        np.testing.assert_array_equal(data.targets.numpy(), labels)
        assert data.data.dtype == torch.uint8 and data.targets.dtype == torch.int64
        assert len(data) == len(labels) and data[1][1] == labels[1]
        assert len(data.classes) == 10 and data.class_to_idx[data.classes[9]] == 9


def test_the_samples_of_mnist(tmp_path, pillow):
    arrays = mnist_arrays()
    put_mnist(tmp_path, arrays)
    image, label = datasets.MNIST(str(tmp_path))[2]
    assert type(label) is int
    if pillow:
        assert isinstance(image, Image.Image) and image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), arrays[0][2])
    else:
        assert image.dtype == torch.uint8
        np.testing.assert_array_equal(image.numpy(), arrays[0][2][None])
    pipeline = transforms.Compose([
        transforms.RandomCrop(28, padding=2), transforms.RandomHorizontalFlip(), transforms.Pad(2),
        transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    data = datasets.MNIST(tmp_path, transform=pipeline, target_transform=lambda label: -label)
    x, y = next(iter(DataLoader(data, batch_size=5)))
    assert x.shape == (5, 1, 32, 32) and x.dtype == torch.float32
    assert y.tolist() == (-arrays[1].astype(int)).tolist()
    assert x.min().item() == pytest.approx(-0.1307 / 0.3081)
    assert repr(pickle.loads(pickle.dumps(data.transform))) == repr(pipeline)   # workers get it


def test_whole_sets_as_tensors(tmp_path, device):
    arrays = mnist_arrays()
    put_mnist(tmp_path, arrays)
    x, y = datasets.MNIST(tmp_path, train=False).tensors(device)
    assert x.device.type == y.device.type == device and x.is_contiguous()
    np.testing.assert_array_equal(x.cpu().numpy(), arrays[2][:, None].astype(np.float32) / 255)
    np.testing.assert_array_equal(y.cpu().numpy(), arrays[3])
    assert len(next(iter(DataLoader(TensorDataset(x, y), batch_size=2)))) == 2


def test_the_repr_tells_all(tmp_path):
    put_mnist(tmp_path, mnist_arrays())
    assert repr(datasets.MNIST(str(tmp_path), False)) == (
        f"Dataset MNIST\n    Number of datapoints: 3\n    Root location: {tmp_path}\n"
        "    Split: Test")


def test_nothing_there(tmp_path):
    with pytest.raises(RuntimeError, match=r"Dataset not found. You can use download=True .*MNIST."
                                           r"raw: train-images-idx3-ubyte\.gz.*t10k-labels"):
        datasets.MNIST(tmp_path)
    with pytest.raises(RuntimeError, match=r"Dataset not found or corrupted. You can use download="
                                           r"True.*data_batch_1 in .*cifar-10-python.tar.gz"):
        datasets.CIFAR10(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut short", "too long", "wrong magic", "labels for images",
                                    "empty", "html", "cut gzip", "huge"])
def test_damaged_files_are_named(tmp_path, damage):
    put_mnist(tmp_path, mnist_arrays())
    path = tmp_path / "train-images-idx3-ubyte"
    good = path.read_bytes()
    path.write_bytes({
        "cut short": good[:-1], "too long": good + b"x", "wrong magic": b"\0\0\x0d\3" + good[4:],
        "labels for images": idx(np.zeros(5, np.uint8)), "empty": b"", "html": b"<html>404</html>",
        "cut gzip": gzip.compress(good)[:100],
        "huge": good[:4] + b"\xff" * 12 + good[16:]}[damage])
    with pytest.raises(RuntimeError, match=rf"{re.escape(str(path))} is corrupt"):
        datasets.MNIST(tmp_path)
    datasets.MNIST(tmp_path, train=False)


def test_as_many_labels_as_images(tmp_path):
    put_mnist(tmp_path, [*mnist_arrays()[:1], np.zeros(4, np.uint8), *mnist_arrays()[2:]])
    with pytest.raises(RuntimeError, match=r"has 5 images, but .* 4 labels"):
        datasets.MNIST(tmp_path)


@pytest.fixture
def served(monkeypatch):
    """A server with small files in place of MNIST's and CIFAR-10's."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = mnist_files(mnist_arrays())
    batches = cifar_batches([name for name, _ in datasets.CIFAR10.train_list] + ["test_batch"])
    contents = cifar_files(batches, "batches.meta", {"label_names": list("abcdefghij")})
    packed = archive("cifar-10-batches-py", contents)
    small = {"train_list": [[name, md5(contents[name])] for name, _ in datasets.CIFAR10.train_list],
             "test_list": [["test_batch", md5(contents["test_batch"])]], "tgz_md5": md5(packed),
             "meta": {**datasets.CIFAR10.meta, "md5": md5(contents["batches.meta"])}}
    with serving({**files, "cifar-10-python.tar.gz": packed}) as handler:
        monkeypatch.setattr(datasets.MNIST, "resources", [(x, md5(files[x])) for x in files])
        monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE, handler.url])
        for name, value in {**small, "url": NOWHERE, "mirrors": [handler.url]}.items():
            monkeypatch.setattr(datasets.CIFAR10, name, value)
        handler.batches, handler.contents = batches, contents
        yield handler


def test_mnist_is_downloaded_once(served, tmp_path):
    data = datasets.MNIST(tmp_path, download=True)
    np.testing.assert_array_equal(data.data.numpy(), mnist_arrays()[0])
    assert len(served.log) == 4
    raw = tmp_path / "MNIST" / "raw"
    assert sorted(os.listdir(raw)) == sorted(x for y in served.files if "ubyte" in y
                                             for x in (y, y[:-3]))
    datasets.MNIST(tmp_path, train=False, download=True)
    assert len(served.log) == 4
    (raw / "t10k-labels-idx1-ubyte").unlink()            # what is packed there is looked at
    (raw / "t10k-images-idx3-ubyte").unlink()
    (raw / "t10k-images-idx3-ubyte.gz").unlink()
    datasets.MNIST(tmp_path, train=False, download=True)
    assert len(served.log) == 5
    put_mnist(tmp_path / "own", mnist_arrays(), packed=True)
    datasets.MNIST(tmp_path / "own", download=True)
    assert len(served.log) == 5 and not (tmp_path / "own" / "MNIST").exists()


def test_a_download_with_the_wrong_checksum(served, tmp_path):
    served.files["t10k-images-idx3-ubyte.gz"] = b"something else"
    with pytest.raises(RuntimeError, match=r"(?s)Error downloading t10k-images.*refused.*has not "
                                           r"the checksum"):
        datasets.MNIST(tmp_path, download=True)
    assert not [x for x in os.listdir(tmp_path / "MNIST" / "raw") if "t10k-images" in x]


# CIFAR -------------------------------------------------------------------------------------------

def check_cifar(data, batches):
    names = [name for name in batches if ("test" in name) != data.train]
    images = np.concatenate([batches[name][0] for name in names])
    assert data.data.shape == (len(images), 32, 32, 3) and data.data.dtype == np.uint8
    np.testing.assert_array_equal(data.data.transpose(0, 3, 1, 2).reshape(-1, 3072), images)
    assert data.targets == [label for name in names for label in batches[name][1]]


def test_cifar10_is_downloaded_once(served, tmp_path):
    data = datasets.CIFAR10(tmp_path, download=True)
    check_cifar(data, served.batches)
    assert data.classes == list("abcdefghij") and data.class_to_idx["j"] == 9
    check_cifar(datasets.CIFAR10(tmp_path, train=False, download=True), served.batches)
    assert len(served.log) == 1
    assert sorted(os.listdir(tmp_path / "cifar-10-batches-py")) == sorted(served.contents)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(b"damaged")
    with pytest.raises(RuntimeError, match=r"the MD5 of data_batch_2 in .*cifar-10-batches-py is "
                                           r"not"):
        datasets.CIFAR10(tmp_path)
    check_cifar(datasets.CIFAR10(tmp_path, download=True), served.batches)
    assert len(served.log) == 1                          # the archive is still there


@pytest.mark.parametrize("place", ["archive", "folder below", "folder"])
def test_cifar10_is_read_where_it_lies(served, tmp_path, place, pillow):
    if place == "archive":
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(served.files["cifar-10-python.tar.gz"])
    else:
        folder = tmp_path / "cifar-10-batches-py" if place == "folder below" else tmp_path
        folder.mkdir(exist_ok=True)
        for name, content in served.contents.items():
            (folder / name).write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    data = datasets.CIFAR10(str(tmp_path), train=False, transform=transforms.ToTensor())
    check_cifar(data, served.batches)
    image, label = data[3]
    np.testing.assert_array_equal(
        (image * 255).round().numpy().ravel(), served.batches["test_batch"][0][3])
    assert label == served.batches["test_batch"][1][3]
    np.testing.assert_array_equal(data.tensors()[0][3].numpy(), image.numpy())
    assert sorted(tmp_path.rglob("*")) == before


def test_cifar100(tmp_path, monkeypatch):
    for name, value in {"train_list": [["train", None]], "test_list": [["test", None]],
                        "meta": {**datasets.CIFAR100.meta, "md5": None}}.items():
        monkeypatch.setattr(datasets.CIFAR100, name, value)
    batches = cifar_batches(["train", "test"], classes=100)
    names = [f"class {i}" for i in range(100)]
    contents = cifar_files(batches, "meta", {"fine_label_names": names}, "fine_labels")
    (tmp_path / "cifar-100-python").mkdir()
    for name, content in contents.items():
        (tmp_path / "cifar-100-python" / name).write_bytes(content)
    data = datasets.CIFAR100(tmp_path)
    check_cifar(data, batches)
    assert data.classes == names
    for protocol in range(2, 6):                         # as Python 3 and NumPy 2 write them
        content = pickle.dumps({"data": batches["train"][0], "fine_labels": [7] * 4,
                                "filenames": ["é.png"]}, protocol)
        assert datasets._unpickled(content)["filenames"] == ["é.png"]
        (tmp_path / "cifar-100-python" / "train").write_bytes(content)
        assert datasets.CIFAR100(tmp_path).targets == [7] * 4


@pytest.mark.parametrize("damage", ["cut short", "not an archive", "without a file"])
def test_a_damaged_archive_is_named(served, tmp_path, damage):
    path, content = tmp_path / "cifar-10-python.tar.gz", served.files["cifar-10-python.tar.gz"]
    served.contents.pop("data_batch_5")
    path.write_bytes({"cut short": content[:len(content) // 2], "not an archive": b"<html>",
                      "without a file": archive("x", served.contents)}[damage])
    message = "no data_batch_5" if damage == "without a file" else f"{path} is corrupt"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        datasets.CIFAR10(tmp_path)


class Evil:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("made", [
    Evil(print, "evil"), Evil(os.system, "echo evil"), Evil(np.load, "evil.npy"),
    np.zeros(3, np.float64), np.zeros(3, object), [1, 2]],
    ids=["print", "system", "numpy.load", "floats", "objects", "no dict"])
def test_a_batch_runs_nothing(capfd, made):
    with pytest.raises(pickle.UnpicklingError):
        datasets._unpickled(pickle.dumps(made, 2))
    assert "evil" not in capfd.readouterr().out


def test_mutated_batches_raise_or_read():
    content = bytearray(cifar_files(cifar_batches(["x"]), "m", {})["x"])
    rng = np.random.default_rng(3)
    for _ in range(300):
        bad = content[:]
        for at in rng.integers(0, 200, 2):
            bad[at] = rng.integers(256)
        try:
            assert isinstance(datasets._unpickled(bytes(bad)), dict)
        except (pickle.UnpicklingError, EOFError):
            pass


# Folders, digits, noise --------------------------------------------------------------------------

@needs_pillow
def test_image_folders(tmp_path):
    for name, colour in (("b/2.png", (0, 255, 0)), ("b/x/1.PNG", (0, 0, 255)), ("a/7.png", 128)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB" if isinstance(colour, tuple) else "L", (4, 3), colour).save(path)
    (tmp_path / "b" / "note.txt").write_text("no image")
    data = datasets.ImageFolder(tmp_path, transform=transforms.ToTensor())
    assert data.classes == ["a", "b"] and data.class_to_idx == {"a": 0, "b": 1}
    assert [os.path.relpath(path, tmp_path) for path, _ in data.imgs] == [
        os.path.join("a", "7.png"), os.path.join("b", "2.png"), os.path.join("b", "x", "1.PNG")]
    assert data.targets == [0, 1, 1] and len(data) == 3
    image, target = data[2]
    assert image.shape == (3, 3, 4) and target == 1 and image[2].min() == 1 and image[0].max() == 0
    with pytest.raises(NotImplementedError, match="go through a DataLoader"):
        data.tensors()


def test_folders_of_anything(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="Couldn't find any class folder"):
        datasets.ImageFolder(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "1.txt").write_text("one")
    read = {"loader": lambda path: open(path).read(), "extensions": (".txt",)}
    with pytest.raises(FileNotFoundError, match=r"no valid file for the classes b. Supported "
                                                r"extensions are: \.txt"):
        datasets.DatasetFolder(tmp_path, **read)
    data = datasets.DatasetFolder(str(tmp_path), **read, allow_empty=True, transform=len)
    assert list(data) == [(3, 0)] and "Root location" in repr(data)
    with pytest.raises(ValueError, match="cannot be None or not None at the same time"):
        datasets.DatasetFolder(tmp_path, **read, is_valid_file=bool)
    (tmp_path / "b" / "1.png").write_text("no image")
    (tmp_path / "a" / "1.png").write_text("no image")
    monkeypatch.setattr(F, "pillow", lambda: None)
    with pytest.raises(ImportError, match="pip install pillow"):
        datasets.ImageFolder(tmp_path)[0]


def test_digits(monkeypatch, pillow):
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    train, test = datasets.Digits(), datasets.Digits(train=False, transform=transforms.ToTensor())
    assert len(train) == 1437 and len(test) == 360
    counts = np.bincount(train.targets), np.bincount(test.targets)
    assert (np.abs(counts[1] - (counts[0] + counts[1]) / 5) <= 1).all()
    np.testing.assert_array_equal(test.targets, datasets.Digits(train=False).targets)
    x, y = test.tensors()
    assert x.shape == (360, 1, 8, 8) and y.dtype == torch.int64
    np.testing.assert_array_equal(np.unique((x * 16).numpy()), np.arange(17))
    image, label = test[5]
    assert np.abs((image - x[5]).numpy()).max() < 0.501 / 255 and label == y[5]
    assert "Split: Test" in repr(test)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        datasets.Digits()


def test_fake_data(pillow):
    data = datasets.FakeData(4, (3, 5, 6), 7, transforms.ToTensor(), random_offset=2)
    state = torch.get_rng_state()
    samples = list(data)
    assert (torch.get_rng_state() == state).all()
    assert len(samples) == 4 and samples[0][0].shape == (3, 5, 6)
    assert all(0 <= label < 7 for _, label in samples)
    again, _ = datasets.FakeData(9, (3, 5, 6), 7, transforms.ToTensor())[3]
    np.testing.assert_array_equal(again.numpy(), samples[1][0].numpy())
    assert (samples[0][0] != samples[1][0]).any()
    assert datasets.FakeData(1, (1, 5, 6), transform=transforms.ToTensor())[0][0].shape == (1, 5, 6)


def test_transforms_of_both():
    def both(image, target):
        return target, image
    data = datasets.VisionDataset("~/x", transforms=both)
    assert data.root == os.path.expanduser("~/x") and data.transforms is both
    with pytest.raises(ValueError, match="Only transforms or transform/target_transform"):
        datasets.VisionDataset(transforms=both, transform=both)
