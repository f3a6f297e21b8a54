"""Checkpoints mapped into memory, in the format before 1.6, with generators; what a kill leaves."""
from __future__ import annotations

import argparse
import collections
import io
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.serialization import (
    get_unsafe_globals_in_checkpoint,
    load,
    safe_globals,
    save,
)

LEGACY = Path(__file__).parent / "recorded" / "checkpoint_legacy.pt"
MAGIC = 0x1950A86A20F9469CFC6C


def legacy(obj, **kw):
    f = io.BytesIO()
    save(obj, f, _use_new_zipfile_serialization=False, **kw)
    return f.getvalue()


def from_bytes(data, **kw):
    return load(io.BytesIO(data), **kw)


# The format before 1.6 ----------------------------------------------------------------------------

@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_round_trip(protocol):
    base = torch.arange(12.0)
    obj = {"base": base, "view": base[2:8].view(2, 3).t(), "half": torch.ones(3).half(),
           "p": torch.nn.Parameter(torch.ones(2)), "ints": torch.tensor([2**40, -1]),
           "empty": torch.zeros(0, 2), "rest": [1, "x", None], "z": torch.tensor([1 + 2j])}
    back = from_bytes(legacy(obj, pickle_protocol=protocol))
    back["base"][3] = 77
    assert back["view"].tolist() == [[2, 5], [77, 6], [4, 7]]
    assert back["half"].dtype is torch.float16 and back["ints"].tolist() == [2**40, -1]
    assert type(back["p"]) is torch.nn.Parameter and back["rest"] == [1, "x", None]
    assert back["z"].tolist() == [1 + 2j] and back["empty"].shape == (0, 2)


def test_dtypes_that_old_files_do_not_have():
    with pytest.raises(NotImplementedError, match=r"has no torch\.uint16"):
        legacy(torch.zeros(2, dtype=torch.uint16))


def test_where_old_files_go():
    data = legacy({"a": torch.arange(3.0)})
    for where in ("cpu", {"cpu": "cpu"}, lambda s, name: s, lambda s, name: None):
        assert from_bytes(data, map_location=where)["a"].tolist() == [0, 1, 2]
    assert from_bytes(data, map_location="meta")["a"].is_meta
    with pytest.raises(RuntimeError, match="don't know how to restore"):
        from_bytes(data, map_location="foo")


@pytest.mark.gpu
def test_old_files_of_other_devices():
    data = legacy([torch.arange(3.0, device="cuda"), torch.ones(2)])
    a, b = from_bytes(data)
    assert a.is_cuda and a.tolist() == [0, 1, 2] and b.device.type == "cpu"
    assert not from_bytes(data, map_location="cpu")[0].is_cuda
    assert from_bytes(data, map_location={"cpu": "cuda"})[1].tolist() == [1, 1]


def by_hand(obj, keys, tail, part=None):
    """An old file written from this description: a list of floats is a storage of that key."""
    class Float(list):
        pass

    class P(pickle._Pickler):
        def persistent_id(self, x):
            return ("storage", Named("torch", "FloatStorage"), str(x[0]), "cpu", int(x[1]),
                    part) if isinstance(x, Float) else None

    class Named:
        def __init__(self, module, name):
            self.at = f"c{module}\n{name}\n".encode()

        def __call__(self):
            raise NotImplementedError

    P.dispatch = {**pickle._Pickler.dispatch, Named: lambda self, x: self.write(x.at)}

    class Tensor:
        def __init__(self, key, count, *rest):
            self.args = Float([key, count]), *rest

        def __reduce__(self):
            return Named("torch._utils", "_rebuild_tensor_v2"), self.args
    f = io.BytesIO()
    P(f, 2).dump(obj(Tensor))
    head = b"".join(pickle.dumps(x, 2) for x in (MAGIC, 1001, {"little_endian": True}))
    return head + f.getvalue() + pickle.dumps(keys, 2) + tail


def floats(*values, count=None):
    return struct.pack("<q", len(values) if count is None else count) + \
        np.array(values, "<f4").tobytes()


def two(t):
    return [t("7", 4, 1, (3,), (1,), False, {}), t("7", 4, 0, (2, 2), (1, 2), False, {})]


def test_a_file_by_hand():
    a, b = from_bytes(by_hand(two, ["7"], floats(1, 2, 3, 4)))
    assert a.tolist() == [2, 3, 4] and b.tolist() == [[1, 3], [2, 4]]
    a[0] = 9
    assert b.tolist() == [[1, 3], [9, 4]]
    part = by_hand(lambda t: t("7", 4, 0, (2,), (1,), False, {}), ["7"], floats(1, 2, 3, 4),
                   ("v", 1, 2))
    assert from_bytes(part).tolist() == [2, 3]


@pytest.mark.parametrize(("change", "error", "match"), [
    (lambda d: d.replace(b"\xe9\x03", b"\xea\x03", 1), RuntimeError, "Invalid protocol version"),
    (lambda d: by_hand(two, [7], floats(1, 2, 3, 4)), pickle.UnpicklingError, "list of keys"),
    (lambda d: by_hand(two, ["8"], floats(1, 2, 3, 4)), RuntimeError, "doesn't fit the file"),
    (lambda d: by_hand(two, ["7", "7"], floats(1, 2, 3, 4) * 2), RuntimeError, "no tensor uses"),
    (lambda d: by_hand(two, ["7"], floats(1, 2, 3, 4, count=5)), RuntimeError, "wrong byte size"),
    (lambda d: by_hand(two, ["7"], floats(1, 2, 3, 4, count=-1)), RuntimeError, "wrong byte size"),
    (lambda d: by_hand(lambda t: t("7", 1 << 50, 0, (2,), (1,), False, {}), ["7"], floats(1)),
     RuntimeError, "doesn't fit the file"),
    (lambda d: by_hand(lambda t: t("7", -1, 0, (2,), (1,), False, {}), ["7"], floats(1)),
     RuntimeError, "doesn't fit the file"),
    (lambda d: by_hand(two, ["7"], floats(1, 2, 3, 4), ("v", 3, 2)), pickle.UnpicklingError,
     "out of bounds"),
    (lambda d: d[:-1], RuntimeError, "cut off"),
], ids=range(10))
def test_damaged_old_files(change, error, match):
    data = change(by_hand(two, ["7"], floats(1, 2, 3, 4)))
    tracemalloc.start()
    with pytest.raises(error, match=match):
        from_bytes(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_truncated_and_changed_old_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, rng = LEGACY.read_bytes(), random.Random(0)
    for n in range(1, len(data), 17):
        with pytest.raises((RuntimeError, EOFError, pickle.UnpicklingError)):
            from_bytes(data[:n])
    tracemalloc.start()
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(len(data))] = rng.randrange(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from_bytes(bytes(changed))
            except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError):
                pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000 and not os.listdir(tmp_path)


@pytest.mark.parametrize("body", [
    b"]" * 20_000 + b"a" * 19_999, b")" + b"q\x000h\x00h\x00\x86" * 60,
    b"\x8b" + struct.pack("<i", 200_000) + b"\x7f" * 200_000], ids=["deep", "doubled", "long"])
def test_pickles_that_are_small_and_build_much(body):
    """They are read in the time and the memory that their length warrants."""
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w") as z:
        z.writestr("a/data.pkl", b"\x80\x02" + body + b".")
        z.writestr("a/version", "3\n")
    old = b"".join(pickle.dumps(x, 2) for x in (MAGIC, 1001, {})) + b"\x80\x02" + body + b"."
    for data in (f.getvalue(), old + pickle.dumps([], 2)):
        tracemalloc.start()
        assert type(from_bytes(data)) in (list, tuple, int)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000 + 200 * len(body)


def test_old_files_run_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Touch:
        def __reduce__(self):
            return os.system, ("touch touched",)
    with pytest.raises(pickle.UnpicklingError, match="blocked"):
        from_bytes(by_hand(lambda t: Touch(), [], b""))
    head = pickle.dumps(MAGIC, 2) + pickle.dumps(Touch(), 2)
    with pytest.raises(pickle.UnpicklingError, match="plain data"):
        from_bytes(head + b"".join(pickle.dumps(x) for x in ({}, [], [])))
    assert not os.listdir(tmp_path)


def test_other_formats(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(LEGACY, "storages")
    with pytest.raises(RuntimeError, match=r"legacy \.tar format"):
        load(tmp_path / "x.tar")
    torch.utils.safetensors.save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(pickle.UnpicklingError, match=r"utils\.safetensors\.load_file"):
        load(tmp_path / "x.safetensors")


# Mapped -------------------------------------------------------------------------------------------

def test_mapped(tmp_path):
    path = tmp_path / "big.pt"
    n = 4_000_000
    save({"a": torch.arange(float(n)), "view": torch.ones(4)[1:], "h": torch.ones(3).half()}, path)
    before = path.read_bytes()
    tracemalloc.start()
    back = load(path, mmap=True)
    assert back["a"][n - 1].item() == n - 1 and back["view"].tolist() == [1, 1, 1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000                      # 16 MB weren't read
    back["a"][0] = 5
    back["a"].mul_(2)
    assert back["a"][0].item() == 10 and path.read_bytes() == before
    del back
    path.write_bytes(before[:len(before) // 2])
    with pytest.raises(RuntimeError, match="cut off or damaged"):
        load(path, mmap=True)
    with pytest.raises(ValueError, match="f must be a file path"):
        load(io.BytesIO(before), mmap=True)
    path.write_bytes(legacy([1]))
    with pytest.raises(RuntimeError, match="mmap can only be used"):
        load(path, mmap=True)


# What is trusted ----------------------------------------------------------------------------------

def test_unsafe_globals(tmp_path):
    obj = {"args": argparse.Namespace(a=1), "d": collections.defaultdict(list), "w": torch.ones(1)}
    names = ["argparse.Namespace", "builtins.list", "collections.defaultdict"]
    for kw in ({}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}):
        save(obj, tmp_path / "x.pt", **kw)
        assert get_unsafe_globals_in_checkpoint(tmp_path / "x.pt") == names
    with open(tmp_path / "x.pt", "rb") as f, safe_globals([argparse.Namespace, list]):
        assert get_unsafe_globals_in_checkpoint(f) == names[2:]


class Renamed:
    def __init__(self):
        self.value = 1


def test_a_class_under_another_name(tmp_path):
    save(Renamed(), tmp_path / "x.pt")
    data = (tmp_path / "x.pt").read_bytes()
    name = f"{Renamed.__module__}.Renamed"
    with safe_globals([(argparse.Namespace, name)]):
        assert from_bytes(data) == argparse.Namespace(value=1)
    with pytest.raises(pickle.UnpicklingError, match="safe_globals"):
        from_bytes(data)


# Generators ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("old", [False, True])
def test_generators_go_on(device, old, tmp_path):
    """All random states in a checkpoint: after loading it the same numbers come again."""
    torch.manual_seed(3)
    mine = torch.Generator(device).manual_seed(5)
    torch.rand(3, device=device), torch.randn(5), torch.rand(2, generator=mine, device=device)
    state = {"cpu": torch.get_rng_state(), "mine": mine.get_state()}
    if device != "cpu":
        state["cuda"] = torch.cuda.get_rng_state_all()
    save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=not old)

    def draw():
        return [torch.rand(3, device=device).tolist(), torch.randn(5).tolist(),
                torch.randperm(9).tolist(), torch.randn(4, generator=mine, device=device).tolist(),
                torch.nn.functional.dropout(torch.ones(30, device=device)).tolist()]
    expected = draw()
    torch.manual_seed(99)
    mine.manual_seed(99)
    assert draw() != expected
    back = load(tmp_path / "x.pt")
    torch.set_rng_state(back["cpu"])
    mine.set_state(back["mine"])
    if device != "cpu":
        torch.cuda.set_rng_state_all(back["cuda"])
    with torch.random.fork_rng(devices=[] if device == "cpu" else [0]):
        assert torch.randn(1).shape == (1,)
        torch.rand(2, device=device)
    assert draw() == expected


# A kill -------------------------------------------------------------------------------------------

@pytest.mark.skipif(os.name != "posix", reason="kills itself as POSIX does")
@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_a_kill_keeps_the_old_file(when, tmp_path):
    path = tmp_path / "x.pt"
    save([torch.ones(3)], path)
    before = path.read_bytes()
    program = ("import os, signal, sys, gpugrad\n"
               f"os.{when} = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
               "gpugrad.save([gpugrad.zeros(100)], sys.argv[1])\n")
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL and path.read_bytes() == before
    save([2], path)
    assert load(path) == [2]


def test_a_disk_that_fills_up():
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 2000:
                raise OSError(28, "No space left on device")
            return super().write(data)
    for kw in ({}, {"_use_new_zipfile_serialization": False}):
        with pytest.raises(OSError, match="No space left"):
            save([torch.ones(5000)] * 2, Full(), **kw)
