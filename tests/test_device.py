"""torch.device: parsing, equality, the default device."""
import copy
import pickle

import pytest

import gpugrad as torch


@pytest.mark.parametrize("args, kind, index", [
    (("cpu",), "cpu", None), (("cuda",), "cuda", None), (("cuda:1",), "cuda", 1),
    (("cuda", 2), "cuda", 2), ((3,), "cuda", 3), (("cpu:0",), "cpu", 0),
    ((torch.device("cuda:1"),), "cuda", 1),
])
def test_parses(args, kind, index):
    d = torch.device(*args)
    assert (d.type, d.index) == (kind, index)
    assert d == torch.device(str(d)) and hash(d) == hash(torch.device(str(d)))


def test_text():
    assert repr(torch.device("cuda", 1)) == "device(type='cuda', index=1)"
    assert repr(torch.device("cpu")) == "device(type='cpu')"
    assert str(torch.device("cuda:0")) == "cuda:0"
    assert torch.device("cuda") != torch.device("cuda:0")
    assert torch.device("cuda:1") != "cuda:1"


@pytest.mark.parametrize("args, error, text", [
    (("gpu",), RuntimeError, "Expected one of cpu, cuda"),
    (("cuda:x",), RuntimeError, "Invalid device string: 'cuda:x'"),
    (("cuda:01",), RuntimeError, "Invalid device string"),
    (("cuda:-1",), RuntimeError, "Invalid device string"),
    (("cuda:0", 0), RuntimeError, "must not include an index"),
    ((-1,), RuntimeError, "negative"),
    ((1.5,), TypeError, "must be str, int or torch.device"),
    (("mps",), NotImplementedError, "runs on 'cpu' and on 'cuda'"),
])
def test_refuses(args, error, text):
    with pytest.raises(error, match=text):
        torch.device(*args)


def test_unknown_devices_of_tensors():
    with pytest.raises(NotImplementedError, match="device type 'xla' is not supported"):
        torch.zeros(2, device="xla")
    with pytest.raises(RuntimeError, match="one CPU"):
        torch.zeros(2, device="cpu:1")
    assert torch.zeros(2, device="cpu:0").device == torch.device("cpu")


def test_copies():
    d = torch.device("cuda:1")
    assert pickle.loads(pickle.dumps(d)) == d and copy.deepcopy(d) == d


def test_default_device():
    assert torch.get_default_device() == torch.device("cpu")
    with torch.device("cpu") as d:
        assert torch.get_default_device() == d
        assert torch.zeros(1).device == d
    torch.set_default_device("cuda:7")
    try:
        with pytest.raises(RuntimeError):
            torch.zeros(1)                       # there is no eighth GPU here
        with torch.device("cpu"):
            assert torch.zeros(1).is_cpu
    finally:
        torch.set_default_device(None)
    assert torch.zeros(1).is_cpu
