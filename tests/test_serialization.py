"""save and load: round trips, devices, damaged and malicious files, atomic writing; deep copies."""
from __future__ import annotations

import argparse
import collections
import copy
import errno
import io
import os
import pickle
import random
import struct
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import backend, optim
from gpugrad._tensor import wrap
from gpugrad.backend import Backend
from gpugrad.nn.parameter import Parameter
from gpugrad.serialization import (
    add_safe_globals,
    clear_safe_globals,
    deepcopy_tensor,
    get_safe_globals,
    load,
    reduce_tensor,
    safe_globals,
    save,
)

RECORDED = Path(__file__).parent / "recorded" / "checkpoint.pt"
SAFE_ERRORS = (RuntimeError, EOFError, pickle.UnpicklingError, ValueError)


def to_bytes(obj):
    f = io.BytesIO()
    save(obj, f)
    return f.getvalue()


def from_bytes(data, **kw):
    return load(io.BytesIO(data), **kw)


def again(obj, **kw):
    return from_bytes(to_bytes(obj), **kw)


# Round trips --------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "bool", "complex64", "complex128"])
def test_dtypes(dtype):
    t = torch.from_numpy(np.array([[0, 1, 2], [3, 100, 5]]).astype(dtype))
    back = again(t)
    assert back.dtype is t.dtype is getattr(torch, dtype) and back.shape == (2, 3)
    np.testing.assert_array_equal(back.numpy(), t.numpy())
    back[0, 0] = 1                               # it can be written to


def test_layouts():
    x = torch.arange(24.0).reshape(2, 3, 4)
    for t in (x.permute(2, 0, 1), x[:, ::2], x[1, 2, 3], x[:, :0], x[:, 3:], torch.zeros(0),
              torch.ones(1).expand(3, 2), torch.tensor(3.0),
              torch.from_numpy(np.asfortranarray(x[0].numpy()))):
        back = again(t)
        assert back.shape == t.shape
        if t.numel():
            assert back.stride() == t.stride() and back.storage_offset() == t.storage_offset()
        np.testing.assert_array_equal(back.numpy(), t.numpy())


def test_a_layout_that_pytorch_does_not_know():
    assert again(wrap(np.arange(6.0)[::-1])).tolist() == [5, 4, 3, 2, 1, 0]


def test_shared_memory_is_shared_again():
    base = torch.arange(10.0)
    back = again({"base": base, "view": base[2:6].view(2, 2).t(), "same": base,
                  "alone": torch.ones(2)})
    assert back["same"] is back["base"]
    back["base"][3] = 77
    assert back["view"].tolist() == [[2, 4], [77, 5]]
    names = zipfile.ZipFile(io.BytesIO(to_bytes([base, base[2:], base[:4].view(2, 2)]))).namelist()
    assert [n for n in names if "/data/" in n] == ["archive/data/0"]


def test_one_memory_as_two_dtypes_is_refused():
    x = torch.ones(4)
    with pytest.raises(RuntimeError, match="view the same data as different types"):
        to_bytes([x, x.view(torch.int32)])


def test_requires_grad_and_parameters():
    x = torch.ones(2, requires_grad=True)
    p, q = Parameter(torch.ones(2)), Parameter(torch.zeros(1), requires_grad=False)
    p.note = {"kept": torch.ones(1)}
    p.grad = torch.ones(2)
    a, b, p2, q2, y = again([x, x.detach(), p, q, x * 2])
    assert a.requires_grad and a.is_leaf and not b.requires_grad and type(a) is torch.Tensor
    assert type(p2) is type(q2) is Parameter and p2.requires_grad and not q2.requires_grad
    assert p2.note["kept"].item() == 1 and p2.grad is None
    assert y.is_leaf and y.requires_grad and y.tolist() == [2, 2]


def test_attributes_of_tensors():
    t = torch.ones(2)
    t.note = "mine"
    assert again(t).note == "mine" and type(again(t)) is torch.Tensor


def test_containers_and_scalars():
    ordered = collections.OrderedDict(b=1, a=2)
    ordered._metadata = {"": {"version": 1}}
    obj = {"list": [1, [2, [3]]], "tuple": ((1,), (1, 2, 3, 4)), "set": {1, 2},
           "frozen": frozenset([3]), 1: -1, (1, "x"): 2**40, "big": -(2**100), "float": 1.5,
           "nan": float("inf"), "complex": 1 + 2j, "bytes": b"\x00\xff", "none": b"",
           "array": bytearray(b"ab"), "text": "né\U0001f600", "yes": True, "no": None,
           "counter": collections.Counter("aab"), "size": torch.Size([2, 3]),
           "device": torch.device("cuda", 1), "cpu": torch.device("cpu"), "dtype": torch.float16}
    back = again(obj)
    assert back == obj and list(back) == list(obj)
    assert type(back["size"]) is torch.Size and back["dtype"] is torch.float16
    back = again(ordered)
    assert type(back) is collections.OrderedDict and list(back) == ["b", "a"]
    assert back._metadata == {"": {"version": 1}}
    loop: list = []
    loop.append(loop)
    assert again(loop)[0][0] is not loop
    long = list(range(3000))
    assert again(long) == long


def test_numpy():
    obj = [np.float64(1.5), np.int64(-3), np.bool_(True), np.arange(6.0).reshape(2, 3),
           np.asfortranarray(np.eye(2, 3)), np.array(["ab", "é"]), np.zeros((0, 2), np.int8),
           np.dtype("f4"), np.array(2, np.float16)]
    for a, b in zip(obj, again(obj), strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)
        assert getattr(a, "dtype", a) == getattr(b, "dtype", b)
    with pytest.raises(pickle.UnpicklingError):
        again(np.array([object], dtype=object))


def test_training_state():
    p = Parameter(torch.ones(3))
    opt = optim.Adam([p])
    p.grad = torch.ones(3)
    opt.step()
    back = again({"model": {"p": p.detach()}, "optimizer": opt.state_dict(),
                  "rng": torch.get_rng_state()})
    q = Parameter(back["model"]["p"])
    other = optim.Adam([q])
    other.load_state_dict(back["optimizer"])
    q.grad = torch.ones(3)
    opt.step()
    other.step()
    assert torch.equal(p.detach(), q.detach())
    torch.set_rng_state(back["rng"])


@pytest.mark.parametrize("name", ["checkpoint.pt", "checkpoint_legacy.pt"])
def test_a_file_of_pytorch(name):
    """Files that recorded/make_checkpoint.py wrote with PyTorch."""
    c = load(RECORDED.with_name(name))
    assert type(c) is collections.OrderedDict
    c["base"][3] = 77
    assert c["view"].tolist() == [[2, 5], [77, 6], [4, 7]] and c["view"].stride() == (1, 3)
    assert list(c["model"]) == ["weight", "bias"] and "" in c["model"]._metadata
    np.testing.assert_allclose(c["model"]["weight"].numpy(), [[0.5, 1.5]], rtol=1e-6)
    state = c["optimizer"]["state"][0]
    assert list(state) == ["step", "exp_avg", "exp_avg_sq"] and state["step"].item() == 1
    assert c["optimizer"]["param_groups"][0]["lr"] == 0.5
    assert type(c["parameter"]) is Parameter and c["parameter"].note == "kept"
    assert c["half"].tolist() == [1, -2] and c["half"].dtype is torch.float16
    assert c["ints"].tolist() == [1, -2] and c["flag"].item() is True
    assert c["u16"].tolist() == [65535] and c["u16"].dtype is torch.uint16
    assert c["empty"].shape == (0, 3) and c["wide"].stride() == (0, 0)
    assert c["size"] == (2, 3) and c["device"] == torch.device("cuda:1")
    assert c["dtype"] is torch.float16
    assert c["rest"] == [1, 2**40, -1.5, None, "é", b"\xff", {1, 2}, (3, (4,)), 1j]
    opt = optim.Adam([Parameter(v) for v in c["model"].values()])
    opt.load_state_dict(c["optimizer"])
    assert opt.param_groups[0]["lr"] == 0.5


def test_other_pickle_protocols_are_read():
    for protocol in (2, 3, 4, 5):
        f = io.BytesIO()
        with zipfile.ZipFile(f, "w") as z:
            obj = {"a": [1, 2.5, "é", b"x" * 300, (1, 2), {3}, frozenset([4]), 2**80, -1, 70000],
                   "b": bytearray(b"ab"), "c": collections.OrderedDict(x=1)}
            z.writestr("a/data.pkl", pickle.dumps(obj, protocol))
            z.writestr("a/version", "3")
        assert from_bytes(f.getvalue()) == obj


# Where it goes ------------------------------------------------------------------------------------

def moved_to_cuda(data):
    """A file whose tensors were saved from a device that no machine has."""
    return rewritten(data, lambda name, record: record.replace(
        b"X\x03\x00\x00\x00cpu", b"X\x07\x00\x00\x00cuda:99") if name == "data.pkl" else record)


def test_map_location():
    data = moved_to_cuda(to_bytes({"a": torch.ones(2)}))
    for where in ("cpu", torch.device("cpu"), {"cuda:99": "cpu"}, lambda s, name: s,
                  lambda s, name: s.cpu()):
        a = from_bytes(data, map_location=where)["a"]
        assert a.tolist() == [1, 1] and a.device == torch.device("cpu")
    seen = []
    from_bytes(to_bytes([torch.ones(2)] * 2), map_location=lambda s, name: seen.append(
        (s.nbytes(), name, str(s.device))))
    assert seen == [(8, "cpu", "cpu")]


@pytest.fixture
def second_device():
    """A device besides the CPU, on any machine: its arrays are NumPy's."""
    where = torch.device("cuda", 42)
    be = backend.register(where, Backend(where))
    yield be
    del backend._made[where]


def test_devices(second_device):
    base = wrap(np.arange(6.0), second_device)
    p = Parameter(wrap(np.ones(2, np.float32), second_device))
    data = to_bytes({"base": base, "view": base[2:4], "p": p})
    for kw, there in [({}, True), ({"map_location": "cpu"}, False)]:
        back = from_bytes(data, **kw)
        assert all(t.device == torch.device("cuda:42" if there else "cpu") for t in back.values())
        back["base"][2] = 77
        assert back["view"].tolist() == [77, 3] and type(back["p"]) is Parameter
    moved = from_bytes(to_bytes(torch.ones(2)), map_location=lambda s, name: s.cuda(42))
    assert moved.device == torch.device("cuda:42") and moved.tolist() == [1, 1]
    copied = deepcopy_tensor(base, {})
    assert copied._be is second_device and copied.tolist() == base.tolist()
    make, args = reduce_tensor(base)
    assert make(*args).device == torch.device("cuda:42") and make(*args).tolist() == base.tolist()


def test_map_location_errors():
    data = to_bytes(torch.ones(2))
    for where in (None, {"cpu": "cuda:99"}):
        with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
            from_bytes(moved_to_cuda(data), map_location=where)
    with pytest.raises(RuntimeError, match=r"don't know how to restore .*tagged with foo"):
        from_bytes(data, map_location="foo")
    for where in (3.5, lambda s, name: 5):
        with pytest.raises(TypeError, match="map_location"):
            from_bytes(data, map_location=where)


def test_arguments():
    data = to_bytes([1])
    assert from_bytes(data, weights_only=False) == from_bytes(data, weights_only=True) == [1]
    assert from_bytes(data, encoding="latin1") == [1]
    with pytest.raises(TypeError, match="unexpected keyword argument 'foo'"):
        from_bytes(data, foo=1)
    with pytest.raises(ValueError, match="mmap"):
        from_bytes(data, mmap=True)
    with pytest.raises(NotImplementedError, match="pickle_module"):
        from_bytes(data, pickle_module=pickle)
    for protocol in (1, 6, "2"):
        with pytest.raises(ValueError, match="pickle_protocol"):
            save([1], io.BytesIO(), pickle_protocol=protocol)
    save([1], f := io.BytesIO(), pickle, 4)
    assert from_bytes(f.getvalue()) == [1]
    for f in (3, None):
        with pytest.raises(AttributeError, match=r"only torch\.load from a file that is seekable"):
            load(f)
        with pytest.raises(AttributeError, match="expected 'f' to be string, path"):
            save([1], f)


# Damaged files ------------------------------------------------------------------------------------

def rewritten(data, change, compression=zipfile.ZIP_STORED):
    """An archive with each record changed; change(name, bytes) may return None to leave it out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as z, zipfile.ZipFile(out, "w", compression) as new:
        for info in z.infolist():
            record = change(info.filename.partition("/")[2], z.read(info))
            if record is not None:
                new.writestr(info.filename, record)
    return out.getvalue()


def test_not_a_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.pt")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(EOFError, match="empty"):
        from_bytes(b"")
    with pytest.raises(pickle.UnpicklingError, match="is not a checkpoint"):
        from_bytes(b"hello world, this is text")
    with pytest.raises(EOFError, match="cut off"):
        from_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.rest")
    path = tmp_path / "text.pt"
    save([1], path)
    with open(path, encoding="latin1") as f, pytest.raises(TypeError, match="mode 'rb'"):
        load(f)


@pytest.mark.parametrize(("change", "error", "match"), [
    (lambda n, r: None if n == "version" else r, RuntimeError, "hasRecord"),
    (lambda n, r: b"99" if n == "version" else r, RuntimeError, "with version 99"),
    (lambda n, r: b"x" if n == "version" else r, RuntimeError, "with version x"),
    (lambda n, r: b"odd" if n == "byteorder" else r, ValueError, "Unknown endianness type: odd"),
    (lambda n, r: None if n == "data/0" else r, RuntimeError, "failed locating file data/0"),
    (lambda n, r: None if n == "data.pkl" else r, RuntimeError, "failed locating file data.pkl"),
    (lambda n, r: r[:-4] if n == "data/0" else r, RuntimeError, "does not match expected size"),
    (lambda n, r: r + r if n == "data/0" else r, RuntimeError, "does not match expected size"),
    (lambda n, r: r[:-5] if n == "data.pkl" else r, EOFError, "cut off"),
    (lambda n, r: b"" if n == "data.pkl" else r, EOFError, "cut off"),
    (lambda n, r: b"\x00" if n == "data.pkl" else r, pickle.UnpicklingError, "operand 0"),
], ids=range(11))
def test_wrong_records(change, error, match):
    with pytest.raises(error, match=match):
        from_bytes(rewritten(to_bytes(torch.ones(5)), change))


def test_other_archives():
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w") as z:
        z.writestr("foo.txt", "x")
    with pytest.raises(RuntimeError, match=r"not a checkpoint.*foo\.txt"):
        from_bytes(f.getvalue())
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w") as z:
        for name in ("data.pkl", "constants.pkl", "version"):
            z.writestr(f"m/{name}", "x")
    with pytest.raises(NotImplementedError, match="TorchScript"):
        from_bytes(f.getvalue())
    with pytest.raises(RuntimeError, match="compressed or encrypted"):
        from_bytes(rewritten(to_bytes([1]), lambda n, r: r, zipfile.ZIP_DEFLATED))


def test_the_other_byte_order():
    other = b"big" if sys.byteorder == "little" else b"little"

    def swap(name, record):
        if name == "data/0":
            return np.frombuffer(record, "f4").byteswap().tobytes()
        return other if name == "byteorder" else record
    assert from_bytes(rewritten(to_bytes(torch.tensor([1.5, -2.0])), swap)).tolist() == [1.5, -2.0]


def test_checksums():
    data = bytearray(to_bytes(torch.full((100,), 7.0)))
    at = bytes(data).index(struct.pack("f", 7.0) * 3)
    data[at + 9] ^= 1
    with pytest.raises(RuntimeError, match="wrong checksum"):
        from_bytes(bytes(data))
    # PyTorch can leave them out: they are then 0 in both headers.
    info = zipfile.ZipFile(io.BytesIO(bytes(data))).getinfo("archive/data/0")
    crc = struct.pack("<I", info.CRC)
    assert from_bytes(bytes(data).replace(crc, bytes(4)))[0] == 7


def test_every_truncation_is_an_error():
    data = RECORDED.read_bytes()
    for n in range(0, len(data) - 1, 7):
        with pytest.raises((RuntimeError, EOFError, pickle.UnpicklingError)):
            from_bytes(data[:n])


def test_mutations_do_no_harm(tmp_path, monkeypatch):
    """Changed bytes give an error or other values; they don't crash, run code or take memory."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    pickled = zipfile.ZipFile(RECORDED).read("checkpoint/data.pkl")
    whole = RECORDED.read_bytes()
    at = whole.index(pickled)
    tracemalloc.start()
    for i in range(450):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            # Mostly the pickle and the directory: nobody checks what the numbers are.
            where = at + rng.randrange(len(pickled)) if i % 3 else rng.randrange(len(data))
            data[where] = rng.randrange(256)
        if i % 3:                                # with a checksum that fits
            data = bytearray(rewritten(whole, lambda n, r, d=bytes(data): d[
                at:at + len(pickled)] if n == "data.pkl" else r))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from_bytes(bytes(data))
            except (*SAFE_ERRORS, TypeError):
                pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000 and not os.listdir(tmp_path)


# Malicious files ----------------------------------------------------------------------------------

def archive(pickled, **records):
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w") as z:
        z.writestr("a/data.pkl", pickled)
        z.writestr("a/version", "3\n")
        for name, record in records.items():
            z.writestr(f"a/data/{name[1:]}", record)
    return f.getvalue()


class Touch:
    """Unpickled as Python does it, this makes a file."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("make", [
    lambda: Touch(os.system, "touch touched"), lambda: Touch(eval, "open('touched', 'w')"),
    lambda: Touch(open, "touched", "w"), lambda: Touch(getattr, "a", "strip"),
    lambda: Touch(exec, "open('touched', 'w')"), lambda: [Touch(os.mkdir, "touched")],
    lambda: {"a": Touch(np.save, "touched", 1)}, lambda: Path("x"), lambda: Touch(list, (1,)),
], ids=range(9))
def test_nothing_is_run(make, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match="GLOBAL"):
        from_bytes(archive(pickle.dumps(make(), protocol)))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("pickled", [
    b"\x80\x02cos\nsystem\nq\x00X\x07\x00\x00\x00touch xq\x01\x85R.",
    b"\x80\x02ctorch._utils\nos.system\nX\x07\x00\x00\x00touch x\x85R.",
    b"\x80\x02ctorch\nfloat32\n)R.",                      # a dtype called
    b"\x80\x02ctorch\nTensor\n)R.",                       # a class that is only named, called
    b"\x80\x02ctorch\nTensor\n)\x81.",                    # and instantiated
    b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    b"\x80\x02ccollections\nOrderedDict\n)R}K\x01K\x02sb.",        # attributes without names
    b"\x80\x02ctorch\nSize\n(K\x01K\x02t\x85R}X\x01\x00\x00\x00aK\x01sb.",
    b"\x80\x02]}X\x01\x00\x00\x00aK\x01sb.",                # a list with attributes
    b"\x80\x02X\x01\x00\x00\x00a)R.",                      # text called
    b"\x80\x02i os\nsystem\n.",                            # an opcode of protocol 0
    b"\x80\x02K\x01Q.",                                    # an unknown persistent id
    b"\x80\x02(X\x07\x00\x00\x00storageK\x01K\x02K\x03K\x04tQ.",
    b"\x80\x02(K\x01.", b"\x80\x02.", b"\x80\x02K\x01K\x02.", b"\x80\x02a.", b"\x80\x02(a.",
    b"\x80\x02h\x05.", b"\x80\x02\x85.", b"\x80\x02t.", b"\x80\x02}(K\x01u.", b"\x80\x02}]K\x01s.",
    b"\x80\x07.", b"\x80\x02ctorch.storage\nUntypedStorage\n)R.",
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))\x89NtR.",
    b"\x80\x02ctorch._utils\n_rebuild_parameter\nK\x01\x88N\x87R.",
    b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(c__builtin__\nset\nctorch\nTensor\n]\x85}tR.",
], ids=range(28))
def test_forged_pickles(pickled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError):
        from_bytes(archive(pickled))
    assert not os.listdir(tmp_path)


STORAGE = (b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
           b"K\x04tQ")
TENSOR = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE
HUGE = b"\x8a\x08" + struct.pack("<q", 1 << 60)
BACK = b"J\xff\xff\xff\xff"                      # -1
LONG = b"X" + struct.pack("<I", 9000) + b"x" * 9000


@pytest.mark.parametrize(("pickled", "match"), [
    (b"\x80\x02\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "cut off"),
    (b"\x80\x02X\xff\xff\xff\x7fx.", "cut off"),
    (b"\x80\x02\x8d" + struct.pack("<Q", 1 << 62) + b".", "cut off"),
    (b"\x80\x02\x8b\xff\xff\xff\x7fx.", "cut off"),
    (b"\x80\x02\x96" + struct.pack("<Q", 1 << 40) + b".", "cut off"),
    (b"\x80\x02Nr\xff\xff\xff\x7f0h\x00.", "KeyError"),          # a far place in the memo
    (b"\x80\x02c__builtin__\nbytearray\n" + HUGE + b"\x85R.", "bytearray made of a int"),
    (b"\x80\x02c__builtin__\nset\n" + HUGE + b"\x85R.", "set made of a int"),
    (b"\x80\x02c__builtin__\nxrange\n" + HUGE + b"\x85R.", "blocked"),
    (b"\x80\x02" + STORAGE.replace(b"K\x04", HUGE) + b".", "does not match expected size"),
    (TENSOR + b"K\x00" + HUGE + b"\x85K\x01\x85\x89NtR.", "out of bounds"),      # the length
    (TENSOR + HUGE + b"K\x01\x85K\x01\x85\x89NtR.", "out of bounds"),            # the offset
    (TENSOR + b"K\x00K\x02\x85" + HUGE + b"\x85\x89NtR.", "out of bounds"),      # the stride
    (TENSOR + b"K\x00K\x02\x85" + BACK + b"\x85\x89NtR.", "sizes"),
    (TENSOR + BACK + b"K\x02\x85K\x01\x85\x89NtR.", "sizes"),
    (TENSOR + b"K\x00)K\x01\x85\x89NtR.", "with strides"),
    # One object copied again and again.
    (b"\x80\x02]q\x00(" + b"K\x01" * 3000 + b"e" + b"c__builtin__\nset\nh\x00\x85R" * 1500 + b".",
     "more than its length warrants"),
    (b"\x80\x02" + LONG + b"q\x00" + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 500
     + b".", "more than its length warrants"),
    # A key that takes for ever to hash, and one that takes all of the C stack.
    (b"\x80\x02}K\x01q\x00" + b"h\x00\x86q\x00" * 200 + b"K\x01s.", "nested too deeply"),
    (b"\x80\x02}K\x01" + b"\x85" * 50_000 + b"K\x01s.", "nested too deeply"),
    (b"\x80\x02}(" + b"K\x01" * 900 + b"tq\x000(" + b"h\x00" * 900 + b"tK\x01s.",
     "more than its length warrants"),
], ids=range(21))
def test_no_size_is_believed(pickled, match):
    data = archive(pickled, _0=bytes(16))
    tracemalloc.start()
    with pytest.raises((RuntimeError, EOFError, pickle.UnpicklingError), match=match):
        from_bytes(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 + 100 * len(pickled)


def test_records_may_not_be_read_more_often_than_the_file_is_long():
    """Names for the same bytes: together they would be more than the file holds."""
    record = bytes(1 << 20)
    data = bytearray(archive(b"\x80\x02](" + b"".join(
        STORAGE.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x00%d" % i).replace(
            b"K\x04", b"J" + struct.pack("<i", 1 << 18)) for i in range(4)) + b"e.",
        _0=record, _1=b"", _2=b"", _3=b""))
    infos = {i.filename: i for i in zipfile.ZipFile(io.BytesIO(bytes(data))).infolist()}
    at = bytes(data).index(b"PK\x01\x02")
    target = infos["a/data/0"].header_offset
    while data[at:at + 4] == b"PK\x01\x02":
        name_length = struct.unpack_from("<H", data, at + 28)[0]
        if bytes(data[at + 46:at + 46 + name_length]).startswith(b"a/data/"):
            struct.pack_into("<III", data, at + 16, 0, len(record), len(record))
            struct.pack_into("<I", data, at + 42, target)
        at += 46 + name_length
    with pytest.raises(RuntimeError, match=r"doesn't fit the file|damaged"):
        from_bytes(bytes(data))


def test_trusted_classes():
    obj = argparse.Namespace(lr=0.1, weights=torch.ones(2))
    data = to_bytes({"args": obj})
    with pytest.raises(pickle.UnpicklingError, match=r"GLOBAL argparse.Namespace.*safe_globals"):
        from_bytes(data)
    with safe_globals([argparse.Namespace]):
        assert get_safe_globals() == [argparse.Namespace]
        back = from_bytes(data)["args"]
        assert back.lr == 0.1 and back.weights.tolist() == [1, 1]
    with pytest.raises(pickle.UnpicklingError):
        from_bytes(data)
    add_safe_globals([collections.defaultdict, range])
    try:
        assert from_bytes(to_bytes(range(3))) == range(3)
    finally:
        clear_safe_globals()
    with pytest.raises(pickle.UnpicklingError, match="module builtins is blocked"):
        from_bytes(to_bytes(range(3)))


def test_trusted_classes_and_functions_may_be_data():
    nn, F = torch.nn, torch.nn.functional
    layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0)         # holds F.relu
    layer.kind = nn.LayerNorm
    trusted = [type(m) for m in layer.modules()]
    data, x = to_bytes(layer), torch.ones(3, 1, 4)
    with safe_globals(trusted), pytest.raises(pickle.UnpicklingError, match=r"activation\.relu"):
        from_bytes(data)
    with safe_globals([*trusted, F.relu]):
        back = from_bytes(data)
    assert back.activation is F.relu and back.kind is nn.LayerNorm
    assert back(x).equal(layer(x))


# Writing ------------------------------------------------------------------------------------------

class Failing:
    def __reduce__(self):
        raise OSError("this object can't be pickled")


def test_the_old_file_survives(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    save([torch.ones(3)], path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="can't be pickled"):
        save([torch.ones(3), Failing()], path)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")
    for target in ("fsync", "replace"):
        with monkeypatch.context() as m:
            m.setattr(os, target, full)
            with pytest.raises(OSError, match="No space left"):
                save([1], path)
    with monkeypatch.context() as m:
        def interrupt(*args):
            raise KeyboardInterrupt
        m.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save([1], path)
    assert os.listdir(tmp_path) == ["model.pt"] and path.read_bytes() == before
    save([2], path)
    assert load(path) == [2] and os.listdir(tmp_path) == ["model.pt"]


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_modes_and_links(tmp_path):
    real, link = tmp_path / "real.pt", tmp_path / "link.pt"
    save([1], real)
    umask = os.umask(0)
    os.umask(umask)
    assert real.stat().st_mode & 0o777 == 0o666 & ~umask
    real.chmod(0o640)
    link.symlink_to(real)
    save([2], link)
    assert link.is_symlink() and load(real) == [2] and real.stat().st_mode & 0o777 == 0o640
    save([1], os.devnull)
    assert os.path.exists(os.devnull) and not os.path.isfile(os.devnull)


def test_paths(tmp_path):
    with pytest.raises(RuntimeError, match=r"Parent directory .* does not exist"):
        save([1], tmp_path / "none" / "x.pt")
    with pytest.raises(RuntimeError, match="Is a directory"):
        save([1], tmp_path)
    for name, root in [("a.b.pt", "a.b"), ("noext", "noext"), ("é.pt", "archive")]:
        save([1], str(tmp_path / name))
        assert zipfile.ZipFile(tmp_path / name).namelist()[0] == f"{root}/data.pkl"
        assert load(str(tmp_path / name)) == [1]


def test_open_files(tmp_path):
    f = io.BytesIO(b"before")
    f.seek(0, 2)
    save({"a": torch.ones(2)}, f)
    assert f.getvalue()[:6] == b"before"
    f.seek(6)
    assert load(f)["a"].tolist() == [1, 1]
    with open(tmp_path / "x.pt", "w+b") as g:
        save([torch.zeros(3)], g)
        g.seek(0)
        assert load(g)[0].tolist() == [0, 0, 0]


def test_records_are_aligned_and_plain(tmp_path):
    save([torch.ones(n) for n in (1, 100, 3)], tmp_path / "x.pt")
    data = (tmp_path / "x.pt").read_bytes()
    for info in zipfile.ZipFile(tmp_path / "x.pt").infolist():
        n, m = struct.unpack_from("<HH", data, info.header_offset + 26)
        assert (info.header_offset + 30 + n + m) % 64 == 0, info.filename
        assert info.compress_type == zipfile.ZIP_STORED
    assert zipfile.ZipFile(tmp_path / "x.pt").testzip() is None


def test_hooks_stay_behind():
    x = torch.ones(2, requires_grad=True)
    x.register_hook(lambda g: g)
    with pytest.warns(UserWarning, match=r"backward hook .* will not be serialized"):
        back = again(x)
    assert back.requires_grad


# Copies -------------------------------------------------------------------------------------------

def test_deepcopy():
    x = torch.arange(6.0)
    x.note = [1]
    x.requires_grad_()
    x.grad = torch.ones(6)
    memo: dict = {}
    y = deepcopy_tensor(x, memo)
    assert y.tolist() == x.tolist() and y.requires_grad and y.is_leaf
    assert y.data_ptr() != x.data_ptr()
    assert y.grad is not x.grad and y.grad.tolist() == [1] * 6 and y.note == [1]
    assert y.note is not x.note and deepcopy_tensor(x, memo) is y
    with pytest.raises(RuntimeError, match="graph leaves"):
        deepcopy_tensor(x * 2, {})


def test_deepcopy_keeps_sharing_and_layout():
    base = torch.arange(12.0).reshape(3, 4)
    memo: dict = {}
    copies = [deepcopy_tensor(t, memo) for t in (base, base.t(), base[1], base.flatten())]
    assert [c.stride() for c in copies] == [(4, 1), (1, 4), (1,), (1,)]
    copies[3][5] = 77
    assert copies[0][1, 1] == copies[1][1, 1] == copies[2][1] == 77 and base[1, 1] == 5


def test_pickle():
    for t in (torch.arange(6).reshape(2, 3).t(), torch.tensor(1.5, requires_grad=True),
              torch.zeros(0, 2), torch.ones(1).expand(3)):
        make, args = reduce_tensor(t)[:2]
        back = make(*pickle.loads(pickle.dumps(args)))
        assert back.dtype is t.dtype and back.shape == t.shape and torch.equal(back, t)
        assert back.requires_grad == t.requires_grad and type(back) is torch.Tensor
        back.detach().zero_()


def test_copy_and_pickle_modules():
    p = Parameter(torch.ones(2))
    t = torch.arange(3.0)
    t.note = "kept"
    for again in (copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))):
        q, u = again([p, t])
        assert type(q) is Parameter and q.requires_grad and torch.equal(q, p) and q is not p
        assert torch.equal(t, u) and u.note == "kept" and u.data_ptr() != t.data_ptr()
