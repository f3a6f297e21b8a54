"""safetensors and .npz files: round trips, slices, and files that are not what they claim to be."""
from __future__ import annotations

import io
import json
import os
import random
import struct
import sys
import tracemalloc
import types
import zipfile

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.utils.npz import load_npz, save_npz
from gpugrad.utils.safetensors import (
    SafetensorError,
    load,
    load_file,
    load_model,
    safe_open,
    save,
    save_file,
    save_model,
)

NAMES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32",
         "uint16", "uint8", "bool", "complex64"]


def tensors():
    return {f"a.{name}": torch.tensor(np.array([[0, 1, 2], [3, 4, 5]]).astype(name))
            for name in NAMES} | {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3)}


def raw(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype is b[name].dtype and a[name].shape == b[name].shape
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy())


def test_round_trip(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(tensors(), path, {"format": "pt"})
    same(load_file(path), tensors())
    same(load(save(tensors())), tensors())
    same(load_file(path, device="cpu"), load(path.read_bytes()))
    back = load_file(path)
    back["a.float32"][0] = 7                     # it is the caller's
    assert load_file(path)["a.float32"][0].tolist() == [0, 1, 2]
    same(load(save({})), {})


def test_bytes_of_a_file():
    """As the format's description has it."""
    data = save({"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([3], dtype=torch.uint8)},
                {"k": "é"})
    n = struct.unpack("<Q", data[:8])[0]
    assert n % 8 == 0 and json.loads(data[8:8 + n]) == {
        "__metadata__": {"k": "é"}, "b": entry(), "a": entry("U8", (1,), (8, 9))}
    assert data[8 + n:] == struct.pack("<ffB", 1, 2, 3)
    theirs = raw({"w": entry("I16", (2, 2), (0, 8))}, struct.pack("<4h", 1, -2, 3, -4))
    assert load(theirs)["w"].tolist() == [[1, -2], [3, -4]]


def test_bfloat16(tmp_path):
    pytest.importorskip("ml_dtypes")
    x = torch.tensor([1.0, -2.5, 3e38]).bfloat16()
    data = save({"x": x})
    assert data.endswith(x.view(torch.int16).numpy().tobytes()) and b'"BF16"' in data
    assert load(data)["x"].dtype is torch.bfloat16 and (load(data)["x"] == x).all()
    save_npz({"x": x}, tmp_path / "x.npz")
    assert np.load(tmp_path / "x.npz")["x::bfloat16"].dtype == np.uint16
    assert (load_npz(tmp_path / "x.npz")["x"] == x).all()


def test_devices(device, tmp_path):
    x = {"x": torch.arange(6.0, device=device).reshape(2, 3)}
    save_file(x, tmp_path / "x")
    back = load_file(tmp_path / "x", device=device)["x"]
    assert back.device.type == torch.device(device).type
    assert back.tolist() == x["x"].tolist()
    with safe_open(tmp_path / "x", "pt", device) as f:
        assert f.get_slice("x")[:, 1:].tolist() == [[1, 2], [4, 5]]
    save_npz(x, tmp_path / "x.npz")
    assert load_npz(tmp_path / "x.npz", device)["x"].tolist() == x["x"].tolist()


def test_lazily(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"big": torch.arange(4_000_000.0).reshape(2000, 2000), "small": torch.ones(3)}, path,
              {"a": "b"})
    tracemalloc.start()
    with safe_open(path, framework="pt") as f:
        assert f.keys() == ["big", "small"] and f.metadata() == {"a": "b"}
        assert f.offset_keys() == ["big", "small"]
        part = f.get_slice("big")
        assert part.get_shape() == [2000, 2000] and part.get_dtype() == "F32"
        assert part[1999, -1].item() == 3_999_999 and part[1, :2].tolist() == [2000, 2001]
        assert part[:2, ::1000].tolist() == [[0, 1000], [2000, 3000]]
        assert part[..., 0].shape == (2000,) and part[None, 0, 0].shape == (1,)
        with pytest.raises(TypeError, match="ints and slices"):
            part[[1, 2]]
        with pytest.raises(IndexError):
            part[2000]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
    assert f.get_tensor("small").tolist() == [1, 1, 1]
    for get in (f.get_tensor, f.get_slice):
        with pytest.raises(SafetensorError, match="does not contain tensor none"):
            get("none")
    with pytest.raises(SafetensorError, match="framework 'tf' is invalid"):
        safe_open(path, framework="tf")
    with pytest.raises(FileNotFoundError):
        safe_open(tmp_path / "none", "pt")


@pytest.mark.parametrize(("make", "error", "match"), [
    (lambda: [1], ValueError, "Expected a dict"), (lambda: {"a": 1}, ValueError, "Key `a`"),
    (lambda: {1: torch.ones(1)}, ValueError, "Key `1`"),
    (lambda: {"a": torch.ones(2, 3).t()}, ValueError, "non contiguous"),
    (lambda: {"a": (x := torch.ones(4)), "b": x[2:]}, RuntimeError, "a and b share memory"),
    (lambda: {"a": torch.ones(1, dtype=torch.complex128)}, NotImplementedError, "complex128"),
    (lambda: {"__metadata__": torch.ones(1)}, ValueError, "__metadata__"),
])
def test_what_can_not_be_saved(make, error, match, tmp_path):
    for write in (save, lambda t: save_file(t, tmp_path / "x")):
        with pytest.raises(error, match=match):
            write(make())
    with pytest.raises(ValueError, match="metadata"):
        save({}, {"a": 1})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("data", "match"), [
    (b"", "too small"), (b"1234", "too small"), (b"\xff" * 8, "too large"),
    (struct.pack("<Q", 100) + b"{}", "cut off"), (raw(b"{"), "header"), (raw(b"\xff{}"), "header"),
    (raw(b"[]"), "not a table"), (raw(b"[" * 100_000), "header"),
    (raw(b'{"a":' + b"1" * 5000 + b"}"), "header|lacks"),
    (raw(b'{"a": 1, "a": 1}'), "twice"), (raw({"a": 1}), "lacks"), (raw({"a": {}}), "lacks"),
    (raw({"__metadata__": {"a": 1}}), "metadata"), (raw({"__metadata__": 3}), "metadata"),
    (raw({"a": entry(shape=(-2,))}, bytes(8)), "wrong dtype, shape"),
    (raw({"a": entry(shape=(2.0,))}, bytes(8)), "wrong dtype, shape"),
    (raw({"a": entry(shape=(True,), offsets=(0, 4))}, bytes(4)), "wrong dtype, shape"),
    (raw({"a": entry(shape=[1 << 100])}, bytes(8)), "wrong dtype, shape"),
    (raw({"a": entry(shape=[1 << 40, 1 << 40])}, bytes(8)), "takes"),
    (raw({"a": entry(shape=[1] * 65)}, bytes(8)), "wrong dtype, shape"),
    (raw({"a": entry(offsets=(0, 8, 16))}, bytes(8)), "wrong dtype, shape"),
    (raw({"a": entry(offsets=(8, 0))}, bytes(8)), "overlaps"),
    (raw({"a": entry(offsets=(4, 12))}, bytes(12)), "overlaps"),
    (raw({"a": entry(), "b": entry()}, bytes(8)), "overlaps"),
    (raw({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "overlaps"),
    (raw({"a": entry(), "b": entry(offsets=(16, 24))}, bytes(24)), "overlaps"),
    (raw({"a": entry(shape=(3,))}, bytes(8)), "takes 12 bytes"),
    (raw({"a": entry()}, bytes(9)), "not fully covered"),
    (raw({"a": entry()}, bytes(7)), "not fully covered"),
    (raw({"a": entry(dtype=3)}, bytes(8)), "wrong dtype"),
], ids=range(30))
def test_damaged_files(data, match, tmp_path):
    tracemalloc.start()
    with pytest.raises(SafetensorError, match=match):
        load(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 + 20 * len(data)
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(SafetensorError, match=match):
        load_file(tmp_path / "x")


def test_dtypes_that_are_not_there():
    data = raw({"a": entry("F8_E4M3", (8,)), "b": entry(offsets=(8, 16))}, bytes(16))
    with pytest.raises(NotImplementedError, match="a is of dtype F8_E4M3"):
        load(data)


def test_a_header_without_padding(tmp_path):
    data = raw(b'{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}  ', struct.pack("<d", 1.5))
    for spaces in range(8):
        moved = raw(data[8:-8] + b" " * spaces, data[-8:])
        (tmp_path / "x").write_bytes(moved)
        assert load(moved)["a"].item() == load_file(tmp_path / "x")["a"].item() == 1.5


def test_truncated_and_changed_files():
    data, rng = save(tensors(), {"a": "b"}), random.Random(0)
    for n in range(0, len(data), 23):
        with pytest.raises(SafetensorError):
            load(data[:n])
    for _ in range(500):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(1200)] = rng.randrange(256)
        try:
            load(bytes(changed))
        except (SafetensorError, NotImplementedError):
            pass


def test_modules(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight
    one, two = Tied(), Tied()
    with pytest.raises(RuntimeError, match="share memory"):
        save_file(one.state_dict(), tmp_path / "x")
    save_model(one, tmp_path / "x")
    with safe_open(tmp_path / "x") as f:
        assert f.keys() == ["a.bias", "a.weight", "b.bias"]
        assert f.metadata() == {"b.weight": "a.weight"}
    assert load_model(two, tmp_path / "x") == ([], [])
    assert (two.b.weight == one.a.weight).all() and two.b.weight is two.a.weight
    with pytest.raises(RuntimeError, match=r"size mismatch|Missing|Unexpected"):
        load_model(nn.Linear(3, 2), tmp_path / "x")
    missing, unexpected = load_model(nn.Linear(3, 2), tmp_path / "x", strict=False)
    assert missing == ["weight", "bias"]
    assert sorted(unexpected) == ["a.bias", "a.weight", "b.bias"]


def test_the_old_file_stays(tmp_path, monkeypatch):
    for write in (save_file, save_npz):
        write({"a": torch.ones(3)}, path := tmp_path / "x")
        before = path.read_bytes()
        with monkeypatch.context() as m:
            def full(*args):
                raise OSError(28, "No space left on device")
            m.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                write({"a": torch.zeros(3)}, path)
        assert path.read_bytes() == before and os.listdir(tmp_path) == ["x"]


# .npz ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("compressed", [False, True])
def test_npz(compressed, tmp_path):
    path = tmp_path / "x.npz"
    save_npz({**tensors(), "file": torch.ones(2)}, path, compressed)
    same(load_npz(path), {**tensors(), "file": torch.ones(2)})
    with np.load(path) as theirs:
        assert theirs["a.int16"].dtype == np.int16 and theirs["scalar"] == 2.5
    np.savez(path, a=np.asfortranarray(np.eye(2, 3)), b=np.arange(3).astype(">i4"))
    back = load_npz(path)
    assert back["a"].tolist() == np.eye(2, 3).tolist() and back["b"].tolist() == [0, 1, 2]
    assert (back["a"] + 1).dtype is torch.float64
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    save_npz(model.state_dict(), path)
    other.load_state_dict(load_npz(path))
    assert (other.weight == model.weight).all()


def test_damaged_npz(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(TypeError, match="'a' is a int"):
        save_npz({"a": 1}, path)
    np.savez(path, a=np.array([object()], object))
    with pytest.raises(ValueError, match="dtype object"):
        load_npz(path)
    np.savez(path, a=np.array(["text"]))
    with pytest.raises(ValueError, match="dtype <U4"):
        load_npz(path)
    f = io.BytesIO()
    np.lib.format.write_array_header_1_0(f, {"shape": (1 << 40,), "fortran_order": False,
                                             "descr": "<f8"})
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("a.npy", f.getvalue() + bytes(16))
    with pytest.raises(ValueError, match="doesn't fit its size"):
        load_npz(path)
    save_npz({"a": torch.arange(100)}, path)
    data, rng = path.read_bytes(), random.Random(0)
    for n in (0, 50, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:n])
        with pytest.raises(ValueError, match=r"not a \.npz file, or is damaged"):
            load_npz(path)
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(bytes(changed))
        try:
            load_npz(path)
        except ValueError:
            pass


def test_by_the_library(tmp_path):
    """The same files by the library, where it is installed."""
    library, opened = pytest.importorskip("safetensors.numpy"), pytest.importorskip("safetensors")
    path = tmp_path / "x.safetensors"
    save_file(tensors(), path, {"a": "b"})
    for name, a in library.load_file(str(path)).items():
        np.testing.assert_array_equal(a, tensors()[name].numpy())
        assert a.dtype == tensors()[name].numpy().dtype
    with opened.safe_open(path, "np") as file:
        assert file.metadata() == {"a": "b"} and set(file.keys()) == set(tensors())
        assert file.get_slice("a.float32")[1:, :2].tolist() == [[3, 4]]
        with pytest.raises(opened.SafetensorError):
            file.get_tensor("missing")
    library.save_file({name: t.numpy() for name, t in tensors().items()}, str(path), {"c": "d"})
    same(load_file(path), tensors())
    with safe_open(path) as file:
        assert file.metadata() == {"c": "d"}
        assert file.get_slice("a.float32")[1:, :2].tolist() == [[3, 4]]


def test_bfloat16_by_the_library(tmp_path):
    library, ml_dtypes = (pytest.importorskip(n) for n in ("safetensors.numpy", "ml_dtypes"))
    x = torch.tensor([[1.0, -2.5], [3e38, 0.1]]).bfloat16()
    save_file({"x": x}, tmp_path / "x")
    back = library.load_file(tmp_path / "x")["x"]
    assert back.dtype == ml_dtypes.bfloat16 and back.astype("f4").tolist() == x.tolist()
    library.save_file({"x": back}, tmp_path / "y")
    again = load_file(tmp_path / "y")["x"]
    assert again.dtype is torch.bfloat16 and again.tolist() == x.tolist()


def test_by_the_library_with_pytorch(tmp_path):
    pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    save_model(model, tmp_path / "model")
    for name, t in library.load_file(tmp_path / "model").items():
        assert t.tolist() == model.state_dict()[name].tolist()
    library.save_file(library.load_file(tmp_path / "model"), tmp_path / "again")
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    load_model(other, tmp_path / "again")
    same(other.state_dict(), model.state_dict())


def test_tensors_are_read_by_the_library_where_it_is(tmp_path, monkeypatch):
    class Opened:
        def __init__(self, filename, framework):
            assert framework == "numpy" and filename == str(tmp_path / "x.safetensors")

        def get_tensor(self, name):
            return np.full((2,), 7.0, np.float32)

    save_file({"a": torch.ones(2), "b": torch.ones(2, dtype=torch.bfloat16)},
              tmp_path / "x.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors", types.SimpleNamespace(safe_open=Opened))
    read = load_file(tmp_path / "x.safetensors")
    assert read["a"].tolist() == [7, 7] and read["b"].tolist() == [1, 1]
    monkeypatch.setitem(sys.modules, "safetensors", None)            # not installed
    assert load_file(tmp_path / "x.safetensors")["a"].tolist() == [1, 1]
