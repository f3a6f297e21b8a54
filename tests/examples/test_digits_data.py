"""The example's data: enlarging, the split, and MNIST's files: found, fetched, cut off, corrupt."""
from __future__ import annotations

import gzip
import hashlib
import http.server
import re
import threading
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture
def data(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import digits_data

    monkeypatch.setattr(digits_data, "MIRRORS", [NOWHERE])
    return digits_data


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return head + array.tobytes()


@pytest.fixture
def small(data, monkeypatch):
    """Four small files in MNIST's format, in place of MNIST: name to contents."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (5, 28, 28), np.uint8), rng.integers(0, 10, 5, np.uint8),
              rng.integers(0, 256, (3, 28, 28), np.uint8), rng.integers(0, 10, 3, np.uint8)]
    files = {name: idx(array) for name, array in zip(data.MNIST, arrays)}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(data, "MNIST", sums)
    return files, arrays


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``files`` as .gz, with ranges; ``cut`` ends the next answer early."""

    files: dict
    cut: int | None = None
    log: list

    def do_GET(self):
        content = gzip.compress(self.files[self.path[1:].removesuffix(".gz")], mtime=0)
        asked = self.headers["Range"]
        type(self).log.append(asked)
        start = int(asked[6:-1]) if asked else 0
        if start >= len(content) and asked:
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end, type(self).cut = self.cut, None
        self.wfile.write(content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(data, small, monkeypatch):
    handler = type("Handler", (Server,), {"files": dict(small[0]), "log": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(data, "MIRRORS", [f"http://127.0.0.1:{running.server_port}/"])
        yield handler
        running.shutdown()


def check(digits, arrays):
    assert digits.train_images.shape == (5, 1, 32, 32)
    assert digits.test_images.shape == (3, 1, 32, 32)
    assert digits.train_images.dtype == np.float32 and digits.train_labels.dtype == np.int64
    np.testing.assert_array_equal(digits.train_images[:, 0, 2:30, 2:30],
                                  arrays[0].astype(np.float32) / 255)
    assert not digits.train_images[:, :, :2].any() and not digits.test_images[..., 30:].any()
    np.testing.assert_array_equal(digits.train_labels, arrays[1])
    np.testing.assert_array_equal(digits.test_labels, arrays[3])


def test_enlarging_is_bilinear(data):
    ramp = np.arange(8.0)[None, None, :].repeat(8, 1)
    big = data.enlarge(ramp, 32)
    assert big.shape == (1, 32, 32)
    expected = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    np.testing.assert_allclose(big[0], np.broadcast_to(expected, (32, 32)))
    np.testing.assert_allclose(data.enlarge(ramp.transpose(0, 2, 1), 32)[0], big[0].T)


def test_a_fifth_of_every_digit_is_held_out(data):
    pytest.importorskip("sklearn", reason="the data are scikit-learn's")
    digits = data.scikit_learn_digits()
    assert digits.train_images.shape == (1437, 1, 32, 32)
    assert digits.test_images.shape == (360, 1, 32, 32)
    assert digits.train_images.dtype == np.float32
    assert 0 <= digits.train_images.min() and 0.9 < digits.train_images.max() <= 1
    train, test = np.bincount(digits.train_labels), np.bincount(digits.test_labels)
    assert (np.abs(test - (train + test) / 5) <= 1).all()
    again = data.scikit_learn_digits()
    np.testing.assert_array_equal(digits.test_images, again.test_images)


@pytest.mark.parametrize("packed", [True, False])
def test_files_that_are_there_are_read(data, small, tmp_path, packed):
    files, arrays = small
    for name, content in files.items():
        path = tmp_path / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    check(data.mnist(tmp_path), arrays)


def test_without_files_or_network_the_four_names_are_given(data, tmp_path):
    with pytest.raises(data.DataError) as caught:
        data.mnist(tmp_path / "mnist")
    message = str(caught.value)
    assert re.search(r"train-images-idx3-ubyte\.gz is missing and can't be downloaded", message)
    assert NOWHERE in message
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        assert f"  {name}-ubyte.gz" in message
    assert not list((tmp_path / "mnist").iterdir())


@pytest.mark.parametrize("kind", ["plain", "packed", "cut short", "not gzip"])
def test_a_corrupt_file_is_named_and_left_alone(data, small, tmp_path, kind):
    files, _ = small
    for name, content in files.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    name = "t10k-images-idx3-ubyte"
    path, good = tmp_path / f"{name}.gz", gzip.compress(files[name])
    bad = {"plain": files[name][:-1] + b"x", "packed": gzip.compress(files[name][:-1] + b"x"),
           "cut short": good[:len(good) // 2], "not gzip": b"<html>404</html>"}[kind]
    path.write_bytes(bad)
    with pytest.raises(data.DataError, match=r"t10k-images-idx3-ubyte\.gz is corrupt") as caught:
        data.mnist(tmp_path)
    assert str(tmp_path) in str(caught.value) and "train-labels-idx1-ubyte.gz" in str(caught.value)
    assert path.read_bytes() == bad


def test_missing_files_are_downloaded_once(data, small, server, tmp_path):
    check(data.mnist(tmp_path / "new" / "mnist"), small[1])
    assert server.log == [None] * 4
    check(data.mnist(tmp_path / "new" / "mnist"), small[1])
    assert len(server.log) == 4
    assert sorted(p.name for p in (tmp_path / "new" / "mnist").iterdir()) == sorted(
        f"{name}.gz" for name in data.MNIST)


def test_a_download_that_broke_off_goes_on(data, small, server, tmp_path):
    server.cut = 700
    with pytest.raises(data.DataError, match="broke off after 700 of"):
        data.mnist(tmp_path)
    part = tmp_path / "train-images-idx3-ubyte.gz.part"
    assert [p.name for p in tmp_path.iterdir()] == [part.name]
    assert part.stat().st_size == 700
    check(data.mnist(tmp_path), small[1])
    assert server.log[:2] == [None, "bytes=700-"]
    assert not part.exists()


def test_a_part_that_is_whole_already_is_used(data, small, server, tmp_path):
    name = "train-images-idx3-ubyte"
    (tmp_path / f"{name}.gz.part").write_bytes(gzip.compress(small[0][name], mtime=0))
    check(data.mnist(tmp_path), small[1])


def test_a_server_that_sends_something_else(data, small, server, tmp_path):
    server.files["train-images-idx3-ubyte"] = b"something else"
    with pytest.raises(data.DataError, match="what it sent has the wrong checksum"):
        data.mnist(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_program_trains_on_them(data, small, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the example draws with matplotlib")
    import train_digits

    for name, content in small[0].items():
        (tmp_path / name).write_bytes(content)
    options = ["--dataset", "mnist", "--data-dir", str(tmp_path), "--epochs", "1"]
    assert train_digits.main([*options, "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "MNIST: 5 images to learn from, 3 held out for the test"
    assert re.fullmatch(r"test accuracy: \d+\.\d %", lines[-1])
    assert (tmp_path / "out" / "digits.png").exists()

    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(SystemExit, match=r"(?s)missing and can't be downloaded.*four files"):
        train_digits.main([*options, "--out", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()
