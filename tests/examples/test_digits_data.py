"""The example's data: scikit-learn's digits enlarged, and MNIST's files with a border."""
from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from example_runs import EXAMPLES

from gpugrad.vision import datasets

NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def data(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import digits_data

    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE])
    return digits_data


@pytest.fixture
def small(tmp_path):
    """A folder with four small files in MNIST's format, and the arrays in them."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (5, 28, 28), np.uint8), rng.integers(0, 10, 5, np.uint8),
              rng.integers(0, 256, (3, 28, 28), np.uint8), rng.integers(0, 10, 3, np.uint8)]
    for (name, _), array in zip(datasets.MNIST.resources, arrays, strict=True):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (tmp_path / name).write_bytes(gzip.compress(head + array.tobytes()))
    return tmp_path, arrays


def test_a_fifth_of_every_digit_is_held_out(data):
    pytest.importorskip("sklearn", reason="the data are scikit-learn's")
    digits = data.scikit_learn_digits()
    assert digits.train_images.shape == (1437, 1, 32, 32)
    assert digits.test_images.shape == (360, 1, 32, 32)
    assert digits.train_images.dtype == np.float32 and digits.train_labels.dtype == np.int64
    assert 0 <= digits.train_images.min() and 0.9 < digits.train_images.max() <= 1
    train, test = np.bincount(digits.train_labels), np.bincount(digits.test_labels)
    assert (np.abs(test - (train + test) / 5) <= 1).all()
    again = data.scikit_learn_digits()
    np.testing.assert_array_equal(digits.test_images, again.test_images)


def test_mnist_gets_a_border(data, small):
    folder, arrays = small
    digits = data.mnist(folder)
    assert digits.train_images.shape == (5, 1, 32, 32)
    assert digits.test_images.shape == (3, 1, 32, 32)
    assert digits.train_images.dtype == np.float32 and digits.train_labels.dtype == np.int64
    np.testing.assert_array_equal(digits.train_images[:, 0, 2:30, 2:30],
                                  arrays[0].astype(np.float32) / 255)
    assert not digits.train_images[:, :, :2].any() and not digits.test_images[..., 30:].any()
    np.testing.assert_array_equal(digits.train_labels, arrays[1])
    np.testing.assert_array_equal(digits.test_labels, arrays[3])


def test_without_files_or_network_the_four_names_are_given(data, tmp_path):
    with pytest.raises(data.DataError) as caught:
        data.mnist(tmp_path / "mnist")
    message = str(caught.value)
    assert "Error downloading train-images-idx3-ubyte.gz" in message and NOWHERE in message
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        assert f"  {name}-ubyte.gz" in message


def test_a_corrupt_file_is_named_and_left_alone(data, small):
    path = small[0] / "t10k-images-idx3-ubyte.gz"
    bad = path.read_bytes()[:-20]
    path.write_bytes(bad)
    with pytest.raises(data.DataError, match=r"t10k-images-idx3-ubyte\.gz is corrupt") as caught:
        data.mnist(small[0])
    assert "train-labels-idx1-ubyte.gz" in str(caught.value)
    assert path.read_bytes() == bad


def test_the_program_trains_on_them(data, small, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the example draws with matplotlib")
    import train_digits

    options = ["--dataset", "mnist", "--data-dir", str(small[0]), "--epochs", "1"]
    assert train_digits.main([*options, "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "MNIST: 5 images to learn from, 3 held out for the test"
    assert re.fullmatch(r"test accuracy: \d+\.\d %", lines[-1])
    assert (tmp_path / "out" / "digits.png").exists()

    (small[0] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(SystemExit, match=r"(?s)Error downloading t10k-labels.*four files"):
        train_digits.main([*options, "--out", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()
