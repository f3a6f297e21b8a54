"""Checkpoints exchanged with PyTorch in both directions, and errors of damaged ones."""
from __future__ import annotations

import collections
import importlib.util
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import gpugrad  # noqa: E402
from gpugrad.nn.parameter import Parameter  # noqa: E402
from gpugrad.serialization import load, save  # noqa: E402

DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
          "uint32", "uint64", "bool", "complex64", "complex128"]


def through(write, read, obj):
    f = io.BytesIO()
    write(obj, f)
    f.seek(0)
    return read(f)


def to_torch(obj):
    return through(save, lambda f: torch.load(f, weights_only=True), obj)


def from_torch(obj):
    return through(torch.save, load, obj)


def same(a, b):
    """Equal in structure, types, values and layouts, one side PyTorch's."""
    if hasattr(a, "storage_offset"):
        assert type(a).__name__ == type(b).__name__ and str(a.dtype) == str(b.dtype)
        assert tuple(a.shape) == tuple(b.shape) and tuple(a.stride()) == tuple(b.stride())
        assert a.storage_offset() == b.storage_offset() or not a.numel()
        assert a.requires_grad == b.requires_grad and str(a.device) == str(b.device)
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
        same(a.__dict__, b.__dict__)
    elif isinstance(a, dict):
        assert type(a) is type(b) and list(a) == list(b)
        for k in a:
            same(a[k], b[k])
        same(getattr(a, "_metadata", 0), getattr(b, "_metadata", 0))
    elif isinstance(a, (list, tuple)):
        assert type(a).__name__ == type(b).__name__ and len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    elif str(type(a)).count("torch") or str(type(a)).count("gpugrad"):
        assert repr(a) == repr(b) or str(a) == str(b)
    else:
        assert type(a) is type(b) and a == b


def things(t, parameter):
    base = t.arange(24.0)
    p, q = parameter(t.ones(2, 3)), parameter(t.zeros(1), requires_grad=False)
    p.note = {"kept": t.ones(1)}
    tagged = t.ones(2)
    tagged.note = "mine"
    return collections.OrderedDict(
        base=base, view=base[2:14].view(3, 4).t(), step=base[::3], row=base.view(4, 6)[1],
        empty=t.zeros(0, 3), scalar=t.tensor(2.5), wide=t.ones(1).expand(3, 2), p=p, q=q,
        leaf=t.ones(2, requires_grad=True), result=t.ones(2, requires_grad=True) * 3, tagged=tagged,
        size=t.Size([2, 3]), device=t.device("cuda", 1), cpu=t.device("cpu"), dtype=t.float16,
        rest=[1, 2**40, -(2**70), 1.5, None, True, "né", b"a\xff", {1, 2}, (1, (2, 3, 4, 5)),
              1 + 2j, {}, [], (), collections.Counter("aab"), bytearray(b"x"), {"a": {1: [None]}}])


def test_from_torch():
    back = from_torch(things(torch, torch.nn.Parameter))
    same(back, things(torch, torch.nn.Parameter))
    back["base"][3] = 77
    assert back["view"].flatten().tolist().count(77) == 1 and back["step"][1] == 77


def test_to_torch():
    back = to_torch(things(gpugrad, Parameter))
    same(back, things(torch, torch.nn.Parameter))
    back["base"][3] = 77
    assert back["view"].flatten().tolist().count(77) == 1 and back["step"][1] == 77


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    a = np.array([[0, 1, 2], [3, 100, 5]]).astype(dtype)
    same(from_torch(torch.from_numpy(a)), torch.from_numpy(a))
    same(to_torch(gpugrad.from_numpy(a)), torch.from_numpy(a))


@pytest.mark.parametrize("make", [
    lambda: torch.nn.Linear(2, 2), lambda: torch.ones(2).to(torch.float8_e4m3fn),
    lambda: torch.eye(2).to_sparse(), lambda: torch.Generator(),
])
def test_what_has_no_counterpart(make):
    with pytest.raises(pickle.UnpicklingError, match=r"GLOBAL torch\..* has no counterpart here"):
        from_torch(make())


def test_the_same_bytes_of_a_pickle():
    """The pickle is PyTorch's own, byte for byte."""
    pickles = []
    for write, t in ((save, gpugrad), (torch.save, torch)):
        f = io.BytesIO()
        obj = things(t, Parameter if t is gpugrad else torch.nn.Parameter)
        del obj["cpu"]           # Python may or may not share its text with that of the tensors
        write(obj, f)
        pickles.append(zipfile.ZipFile(f).read("archive/data.pkl"))
    assert pickles[0] == pickles[1]


def test_optimizers_and_modules():
    state = {}
    for t, parameter in ((gpugrad, Parameter), (torch, torch.nn.Parameter)):
        p = parameter(t.ones(3))
        opt = t.optim.Adam([{"params": [p], "lr": 0.5}], amsgrad=True)
        p.grad = t.ones(3)
        opt.step()
        state[t] = opt.state_dict()
    same(to_torch(state[gpugrad]), state[torch])
    same(from_torch(state[torch]), state[torch])
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    same(from_torch(model.state_dict()), model.state_dict())


def test_random_state():
    gpugrad.manual_seed(3)
    torch.set_rng_state(to_torch(gpugrad.get_rng_state()))
    assert torch.rand(3).tolist() == gpugrad.rand(3).tolist()
    gpugrad.set_rng_state(from_torch(torch.get_rng_state()))
    assert torch.rand(3).tolist() == gpugrad.rand(3).tolist()


def test_numpy_inside():
    obj = [np.float64(1.5), np.int64(2), np.arange(6.0).reshape(2, 3), np.array(["ab"])]
    for a, b in zip(obj, from_torch(obj), strict=True):
        assert type(a) is type(b)
        np.testing.assert_array_equal(a, b)
    f = io.BytesIO()
    save(obj, f)
    f.seek(0)
    for a, b in zip(obj, torch.load(f, weights_only=False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_mapped_by_torch(tmp_path):
    save({"a": gpugrad.ones(3), "b": gpugrad.arange(1000.0)}, tmp_path / "x.pt")
    back = torch.load(tmp_path / "x.pt", mmap=True, weights_only=True)
    assert back["b"][999] == 999 and back["a"].tolist() == [1, 1, 1]


def test_files_without_checksums(tmp_path):
    before = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(False)
        torch.save(torch.arange(100.0), tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert load(tmp_path / "x.pt")[99] == 99


def test_the_recorded_file_is_up_to_date():
    path = Path(__file__).parents[1] / "recorded" / "make_checkpoint.py"
    spec = importlib.util.spec_from_file_location("make_checkpoint", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("checkpoint.pt", "checkpoint_legacy.pt"):
        torch.manual_seed(0)
        same(load(path.with_name(name)), module.contents())


def test_old_format():
    """The format before 1.6, in both directions."""
    def old(write):
        return lambda obj, f: write(obj, f, _use_new_zipfile_serialization=False)
    same(through(old(torch.save), load, things(torch, torch.nn.Parameter)),
         things(torch, torch.nn.Parameter))
    back = through(old(save), lambda f: torch.load(f, weights_only=True),
                   things(gpugrad, Parameter))
    same(back, things(gpugrad, Parameter))


def test_mapped(tmp_path):
    torch.save(things(torch, torch.nn.Parameter), tmp_path / "x.pt")
    same(load(tmp_path / "x.pt", mmap=True), things(torch, torch.nn.Parameter))
    torch.save([1], tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for read in (load, torch.load):
        with pytest.raises(RuntimeError, match="mmap can only be used"):
            read(tmp_path / "old.pt", mmap=True)
        with pytest.raises(ValueError, match="f must be a file path"), \
                open(tmp_path / "x.pt", "rb") as f:
            read(f, mmap=True)


def test_unsafe_globals(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"a": collections.defaultdict(list), "path": Path("x"), "w": torch.ones(2)}, path)
    theirs = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    ours = gpugrad.serialization.get_unsafe_globals_in_checkpoint(path)
    assert sorted(theirs) == ours and len(ours) > 1


@pytest.mark.parametrize("change", [
    lambda d: b"", lambda d: d[:len(d) // 2], lambda d: d[:-30], lambda d: d[:4],
    lambda d: d.replace(b"data/0", b"data/9"), lambda d: d.replace(b"/version", b"/versio_"),
    lambda d: d.replace(b"3\n", b"99"), lambda d: d.replace(b"little", b"middle"),
    lambda d: d.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"),
    lambda d: d.replace(b"collections\nOrderedDict", b"collections\ndefaultdict"),
], ids=range(10))
def test_error_types(change):
    f = io.BytesIO()
    torch.save({"a": torch.arange(100.0)}, f)
    with zipfile.ZipFile(f) as z:                # without checksums, which PyTorch doesn't look at
        data = f.getvalue()
        for info in z.infolist():
            data = data.replace(info.CRC.to_bytes(4, "little"), bytes(4))
    data = change(data)
    kinds = []
    for read in (load, torch.load):
        with pytest.raises(Exception) as caught:
            read(io.BytesIO(data))
        kinds.append(next((k for k in (EOFError, pickle.UnpicklingError, RuntimeError, ValueError)
                           if issubclass(caught.type, k)), caught.type))
    assert kinds[0] is kinds[1]


@pytest.mark.parametrize("old", [False, True])
def test_empty_tensors_that_begin_behind_their_memory(old):
    x = torch.zeros(2, 0)[1:]
    assert x.storage_offset() == 1 and not x.untyped_storage().nbytes()
    file = io.BytesIO()
    torch.save(x, file, _use_new_zipfile_serialization=not old)
    back = gpugrad.load(io.BytesIO(file.getvalue()))
    assert back.shape == (1, 0) and back.dtype is gpugrad.float32
