"""Hooks of modules: forward, backward, of all modules, and at registration."""
from __future__ import annotations

import copy
import warnings

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.nn.modules import module as hooks


class Twice(nn.Module):
    def forward(self, x, add=0.0):
        return x * 2 + add


def ones():
    return torch.ones(2, requires_grad=True)


def test_forward_pre_hook():
    net, seen = Twice(), []
    handle = net.register_forward_pre_hook(lambda m, args: seen.append((m, args)))
    x = ones()
    assert net(x, add=1.0).sum().item() == 6
    assert seen == [(net, (x,))]
    net.register_forward_pre_hook(lambda m, args: args[0] * 10)
    assert net(x).sum().item() == 40
    net.register_forward_pre_hook(lambda m, args: (args[0] * 10,), prepend=True)
    assert net(x).sum().item() == 400
    handle.remove()
    handle.remove()
    net(x)
    assert len(seen) == 3


def test_forward_pre_hook_with_kwargs():
    net = Twice()
    net.register_forward_pre_hook(lambda m, args, kw: (args, {"add": kw["add"] * 10}),
                                  with_kwargs=True)
    assert net(ones(), add=1.0).sum().item() == 24
    net.register_forward_pre_hook(lambda m, args, kw: 3, with_kwargs=True)
    with pytest.raises(RuntimeError) as caught:
        net(ones(), add=1.0)
    assert str(caught.value) == ("forward pre-hook must return None or a tuple of (new_args, "
                                 "new_kwargs), but got 3.")


def test_forward_hook():
    net, order = Twice(), []
    net.register_forward_hook(lambda m, args, out: order.append("a"))
    net.register_forward_hook(lambda m, args, out: order.append("b"), prepend=True)
    with net.register_forward_hook(lambda m, args, out: out * 100):
        assert net(ones()).sum().item() == 400
    assert net(ones()).sum().item() == 4
    assert order == ["b", "a", "b", "a"]
    seen = []
    net.register_forward_hook(lambda m, args, kw, out: seen.append((args, kw, out)),
                              with_kwargs=True)
    x = ones()
    out = net(x, add=2.0)
    assert seen[0][0][0] is x and seen[0][1] == {"add": 2.0} and seen[0][2] is out


def test_always_call():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    net, seen = Fails(), []
    net.register_forward_hook(lambda m, args, out: seen.append("never"))
    net.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    with pytest.raises(ValueError, match="no"):
        net(1)
    assert seen == [None]

    def broken(m, args, out):
        raise RuntimeError("also no")

    net.register_forward_hook(broken, always_call=True)
    with pytest.warns(UserWarning, match="silenced as another error was raised in forward: also "
                                         "no"), \
            pytest.raises(ValueError):
        net(1)
    assert seen == [None, None]


def test_always_called_hook_that_ran_is_not_called_again():
    net, seen = Twice(), []
    net.register_forward_hook(lambda m, args, out: seen.append(1), always_call=True)

    def broken(m, args, out):
        raise RuntimeError("no")

    net.register_forward_hook(broken)
    with pytest.raises(RuntimeError):
        net(ones())
    assert seen == [1]


def test_full_backward_hook():
    net, seen = Twice(), []
    net.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    x = ones()
    y = net(x)
    assert y.grad_fn.name() == "BackwardHookFunctionBackward"
    (y * torch.tensor([1.0, 3.0])).sum().backward()
    (gi,), (go,) = seen[0]
    assert go.tolist() == [1, 3] and gi.tolist() == [2, 6] and x.grad.tolist() == [2, 6]


def test_full_backward_hook_replaces_the_gradient():
    net, x = Twice(), ones()
    net.register_full_backward_hook(lambda m, gi, go: (gi[0] * 10,))
    net.register_full_backward_hook(lambda m, gi, go: (gi[0] + 1,))
    net(x).sum().backward()
    assert x.grad.tolist() == [21, 21]
    net.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    with pytest.raises(RuntimeError) as caught:
        net(x).sum().backward()
    assert str(caught.value) == ("Backward hook returned an invalid number of grad_input, got 2, "
                                 "but expected 1")


def test_backward_pre_hook():
    net, x, order = Twice(), ones(), []
    net.register_full_backward_pre_hook(lambda m, go: (go[0] * 10,))
    net.register_full_backward_pre_hook(lambda m, go: order.append(go[0].tolist()))
    net.register_full_backward_hook(
        lambda m, gi, go: order.append((gi[0].tolist(), go[0].tolist())))
    net(x).sum().backward()
    assert x.grad.tolist() == [20, 20]
    assert order == [[10, 10], ([20, 20], [10, 10])]
    net.register_full_backward_pre_hook(lambda m, go: (go[0], go[0]))
    with pytest.raises(RuntimeError, match="Backward pre hook returned an invalid number of "
                                           "grad_output, got 2, but expected 1"):
        net(x).sum().backward()


def test_backward_hook_with_several_tensors():
    class Pair(nn.Module):
        def forward(self, x, n, y):
            return x * n, "text", x * y

    net, seen = Pair(), []
    net.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    x, y = ones(), torch.ones(2)
    a, text, b = net(x, 3, y)
    assert text == "text"
    (a + b * 2).sum().backward()
    gi, go = seen[0]
    assert len(gi) == 3 and gi[0].tolist() == [5, 5] and gi[1] is None
    assert go[0].tolist() == [1, 1] and go[1] is None and go[2].tolist() == [2, 2]


def test_backward_hook_without_gradients_of_inputs():
    net, seen = nn.Linear(2, 1), []
    net.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    with pytest.warns(UserWarning, match="Full backward hook is firing"):
        net(torch.ones(1, 2)).sum().backward()
    assert seen[0][0] == (None,) and seen[0][1][0].tolist() == [[1]]
    net.register_full_backward_hook(lambda m, gi, go: (torch.ones(1),))
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="always return None"):
        net(torch.ones(1, 2)).sum().backward()


def test_backward_hook_needs_tensors_out():
    class Dict(nn.Module):
        def forward(self, x):
            return {"y": x * 2}

    net, x = Dict(), ones()
    net.register_full_backward_hook(lambda m, gi, go: None)
    with pytest.warns(UserWarning, match="module output should be a Tensor or a tuple of Tensors"):
        net(x)["y"].sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_no_backward_hooks_without_recording():
    net = Twice()
    net.register_full_backward_hook(lambda m, gi, go: 1 / 0)
    with torch.no_grad():
        assert net(ones()).grad_fn is None


def test_old_backward_hook():
    net, x, seen = Twice(), ones(), []
    net.register_backward_hook(lambda m, gi, go: seen.append(go[0].tolist()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net(x).sum().backward()
    assert seen == [[1, 1]]
    with pytest.raises(RuntimeError, match="Cannot use both regular backward hooks and full"):
        net.register_full_backward_hook(lambda m, gi, go: None)


def test_hooks_of_all_modules():
    net, seen = nn.Sequential(nn.ReLU(), Twice()), []

    def note(what):
        return lambda m, *rest: seen.append((what, type(m).__name__))

    handles = [hooks.register_module_forward_pre_hook(note("pre")),
               hooks.register_module_forward_hook(note("after")),
               hooks.register_module_forward_hook(note("always"), with_kwargs=True,
                                                  always_call=True),
               hooks.register_module_full_backward_pre_hook(note("back pre")),
               hooks.register_module_full_backward_hook(note("back"))]
    try:
        net(ones()).sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    forward = [("pre", "Sequential"), ("pre", "ReLU"), ("after", "ReLU"), ("always", "ReLU"),
               ("pre", "Twice"), ("after", "Twice"), ("always", "Twice"), ("after", "Sequential"),
               ("always", "Sequential")]
    assert seen[:9] == forward
    assert seen[9:] == [("back pre", "Sequential"), ("back pre", "Twice"), ("back", "Twice"),
                        ("back pre", "ReLU"), ("back", "ReLU"), ("back", "Sequential")]
    net(ones())
    assert len(seen) == 15


def test_registration_hooks():
    seen = []
    handles = [
        hooks.register_module_parameter_registration_hook(
            lambda m, name, p: seen.append(("parameter", name))),
        hooks.register_module_buffer_registration_hook(
            lambda m, name, b: seen.append(("buffer", name))),
        hooks.register_module_module_registration_hook(
            lambda m, name, c: seen.append(("module", name)) or nn.Tanh())]
    try:
        net = nn.Module()
        net.p = nn.Parameter(torch.ones(1))
        net.register_buffer("b", torch.ones(1))
        net.child = nn.ReLU()
    finally:
        for handle in handles:
            handle.remove()
    assert seen == [("parameter", "p"), ("buffer", "b"), ("module", "child")]
    assert isinstance(net.child, nn.Tanh)


def test_hooks_are_copied_with_the_module():
    net = Twice()
    net.register_forward_hook(times_ten)
    twin = copy.deepcopy(net)
    assert twin(ones()).sum().item() == 40
    net._forward_hooks.clear()
    assert net(ones()).sum().item() == 4 and twin(ones()).sum().item() == 40


def times_ten(module, args, out):
    return out * 10


def test_tables_can_be_read():
    net = Twice()
    assert len(net._forward_hooks) == 0 and not net._backward_hooks
    handle = net.register_forward_hook(times_ten)
    assert list(net._forward_hooks.values()) == [times_ten]
    net._forward_hooks.clear()
    assert net(ones()).sum().item() == 4
    handle.remove()
