"""The machinery of modules: where errors came from, to_empty and skip_init, tables of hooks."""
from __future__ import annotations

import copy
import pickle
import sys
import traceback
from typing import Any

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.nn.modules import module as machinery
from gpugrad.nn.utils import skip_init, stateless

OLD = sys.version_info < (3, 11)


class Block(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1, self.act = nn.Conv2d(n, 4, 3), nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.act(self.conv1(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = Block(3), nn.ModuleList([Block(5)])
        self.register_buffer("lost", torch.zeros(1), persistent=False)

    def forward(self, x: Any) -> Any:
        return self.layer2[0](self.layer1(x))


def said(call: Any) -> tuple[BaseException, str]:
    """The exception of a call, and the text of its traceback."""
    try:
        call()
    except Exception as e:
        return e, "".join(traceback.format_exception(type(e), e, e.__traceback__))
    pytest.fail("no error")


# Where errors came from --------------------------------------------------------------------------

def test_an_error_tells_the_path_of_its_module():
    net = Net()
    error, text = said(lambda: net(torch.zeros(2, 3, 8, 8)))
    where = "in module layer2.0.conv1 (Conv2d) of Net, called with float32 [2, 4, 6, 6]"
    assert type(error) is RuntimeError and text.count("in module") == 1 and where in text
    assert "in module" not in str(error) and len(error.args) == 1
    assert "[4, 5, 3, 3]" in str(error) and "[2, 4, 6, 6]" in str(error)
    if not OLD:
        assert error.__notes__ == [where] and error.__cause__ is None


def test_the_path_starts_at_the_outermost_module():
    outer = nn.Sequential(nn.Identity(), nn.ModuleDict({"body": Net()}))

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = outer

        def forward(self, x: Any) -> Any:
            return self.parts[1]["body"](x)
    _, text = said(lambda: Whole()(torch.zeros(2, 3, 8, 8)))
    assert "in module parts.1.body.layer2.0.conv1 (Conv2d) of Whole, called" in text


def test_a_module_alone_and_one_that_is_no_submodule():
    _, text = said(lambda: nn.Linear(2, 3)(torch.zeros(4, 5)))
    assert "in module Linear, called with float32 [4, 5]" in text

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = [nn.Linear(2, 3)]

        def forward(self, x: Any) -> Any:
            return self.parts[0](x)
    _, text = said(lambda: Hidden()(torch.zeros(4, 5)))
    assert text.count("in module Linear, called") == 1


def test_an_error_keeps_its_type_arguments_and_cause():
    class Fails(nn.Module):
        def forward(self, how: str) -> Any:
            if how == "from":
                raise KeyError("a", 1) from ValueError("first")
            if how == "context":
                try:
                    1 / 0      # noqa: B018
                except ZeroDivisionError:
                    raise KeyError("a", 1)      # noqa: B904
            raise KeyError("a", 1) from None
    net = nn.Sequential(Fails())
    for how, before in (("from", "ValueError: first"), ("context", "ZeroDivisionError"),
                        ("none", "")):
        error, text = said(lambda how=how: net(how))
        assert type(error) is KeyError and error.args == ("a", 1)
        assert before in text and text.count("in module 0 (Fails) of Sequential") == 1
        assert "KeyError: ('a', 1)" in text and "raise KeyError" in text
    if not OLD:
        assert error.__cause__ is None


def test_notes_of_others_stay():
    if OLD:
        pytest.skip("exceptions of Python 3.10 have no notes")

    class Fails(nn.Module):
        def forward(self) -> Any:
            e = ValueError("x")
            e.add_note("mine")
            raise e
    error, _ = said(nn.Sequential(Fails())[0])
    assert error.__notes__ == ["mine", "in module Fails"]


def test_half_built_modules_show_their_own_error():
    class Half(nn.Module):
        def __init__(self) -> None:
            pass

        def forward(self) -> Any:
            return self.absent
    error, _ = said(Half())
    assert type(error) is AttributeError and "'Half' object has no attribute 'absent'" in str(error)


def test_hooked_modules_tell_too():
    net = Net()
    net.layer2[0].register_forward_hook(lambda m, a, o: None)
    _, text = said(lambda: net(torch.zeros(2, 3, 8, 8)))
    assert text.count("in module layer2.0.conv1 (Conv2d) of Net") == 1


def test_one_exception_object_raised_twice():
    e = ValueError("again")

    class Fails(nn.Module):
        def forward(self) -> Any:
            raise e
    for _ in range(2):
        _, text = said(Fails())
        assert text.count("in module") == 1


# Moving ------------------------------------------------------------------------------------------

def test_skip_init(device):
    torch.manual_seed(0)
    m = skip_init(nn.Linear, 3, 4, device=device)
    assert m.weight.device.type == device and m.weight.shape == (4, 3) and m.bias.requires_grad
    a = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(a, torch.rand(1))
    with pytest.raises(RuntimeError, match="must support a 'device' arg"):
        skip_init(nn.ReLU)
    with pytest.raises(RuntimeError, match="Expected a Module; got <class 'int'>"):
        skip_init(int)


def test_to_empty_keeps_ties_and_kinds(device):
    net = Net()
    net.tied = net.layer1.conv1.weight
    weight = net.tied
    net.to("meta").to_empty(device=device)
    assert net.tied is net.layer1.conv1.weight is weight and weight.device.type == device
    assert net.lost.device.type == device and "lost" not in net.state_dict()
    net.layer1.to("meta")
    assert net.tied.is_meta and not net.layer2[0].conv1.weight.is_meta


def test_other_devices_say_so():
    for move in (nn.Linear(1, 1).xpu, nn.Linear(1, 1).ipu, nn.Linear(1, 1).mtia):
        with pytest.raises((NotImplementedError, RuntimeError), match="device"):
            move()


def test_compile_leaves_the_module_as_it_is():
    m = nn.Linear(1, 1)
    assert m.compile(dynamic=True) is None
    x = torch.ones(1, 1)
    assert torch.equal(m(x), m._call_impl(x)) and torch.equal(m(x), m._wrapped_call_impl(x))


# Hooks -------------------------------------------------------------------------------------------

def note_call(module: Any, args: Any, out: Any) -> None:
    module.calls = getattr(module, "calls", 0) + 1


def test_tables_without_hooks():
    m = nn.ReLU()
    m._forward_hooks.clear()
    assert len(m._forward_hooks) == 0 and m._forward_hooks.pop(3, None) is None
    for write in (lambda: m._forward_hooks.__setitem__(0, note_call),
                  lambda: m._forward_hooks.update({0: note_call}),
                  lambda: m._forward_hooks.setdefault(0, note_call)):
        with pytest.raises(TypeError, match="register_"):
            write()


def test_hooks_of_a_copy_are_its_own():
    m = nn.Sequential(nn.ReLU())
    handle = m[0].register_forward_hook(note_call)
    m.handle = handle
    for c in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        c.handle.remove()
        c(torch.ones(1))
        assert not hasattr(c[0], "calls") and len(m[0]._forward_hooks) == 1
        again = c[0].register_forward_hook(note_call)
        c(torch.ones(1))
        assert c[0].calls == 1
        again.remove()
    m(torch.ones(1))
    assert m[0].calls == 1


def test_a_new_hook_takes_no_number_of_an_unpickled_one():
    m = nn.ReLU()
    m.register_forward_hook(note_call)
    c = pickle.loads(pickle.dumps(m))
    known = list(c._forward_hooks)
    torch._hooks.RemovableHandle._next_id = iter([*known, *range(10 ** 9, 10 ** 9 + 10 ** 4)])
    c.register_forward_hook(note_call)
    c(torch.ones(1))
    assert c.calls == 2


# Buffers and names -------------------------------------------------------------------------------

def test_buffers_are_tensors_that_remember():
    b = nn.Buffer(torch.ones(2), persistent=False)
    assert type(b) is torch.Tensor and isinstance(b, nn.Buffer) and not b.persistent
    assert not isinstance(torch.ones(2), nn.Buffer) and not isinstance(3, nn.Buffer)
    assert not isinstance(b + 1, nn.Buffer) and isinstance(nn.UninitializedBuffer(), nn.Buffer)
    m = nn.Module()
    m.b = b
    assert list(dict(m.named_buffers())) == ["b"] and not m.state_dict()


def test_names_that_model_files_import():
    assert machinery._addindent("a\nb", 3) == "a\n   b"
    assert machinery._EXTRA_STATE_KEY_SUFFIX == "_extra_state"
    assert nn.Module.T_destination is machinery.T_destination
    assert repr(machinery._IncompatibleKeys([], [])) == "<All keys matched successfully>"


# Functional calls --------------------------------------------------------------------------------

def test_functional_call_gives_back_what_it_replaced(device):
    m = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to(device)
    before = dict(m.state_dict(keep_vars=True))
    new = {k: torch.zeros_like(v) for k, v in before.items()}
    out = torch.func.functional_call(m, new, torch.ones(3, 2, device=device))
    assert not out.any() and new["1.num_batches_tracked"].item() == 1
    assert all(v is before[k] for k, v in m.state_dict(keep_vars=True).items())
    with pytest.raises(RuntimeError):
        torch.func.functional_call(m, {"0.weight": torch.zeros(5, 5, device=device)},
                                   torch.ones(3, 2, device=device))
    assert m[0].weight is before["0.weight"]
    with pytest.warns(FutureWarning, match="deprecated as of PyTorch 2.0"):
        stateless.functional_call(m, new, torch.ones(3, 2, device=device))


def test_functional_call_follows_ties():
    m = nn.Linear(2, 2, bias=False)
    m.other = m.weight
    new = torch.zeros(2, 2)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m = m

        def forward(self, x: Any) -> Any:
            return self.m(x) + x @ self.m.other
    f, x = torch.func.functional_call, torch.ones(1, 2)
    assert not f(Both(), {"m.other": new}, x).any()
    assert f(Both(), {"m.other": new}, x, tie_weights=False).any()
    with pytest.raises(ValueError, match=r"multiple values for keys \['m.other', 'm.weight'\]"):
        f(Both(), {"m.other": new, "m.weight": new + 1}, x)
