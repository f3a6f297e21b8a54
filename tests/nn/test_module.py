"""Module: registration, traversal, modes, devices and dtypes, printing, copying."""
from __future__ import annotations

import copy
import pickle
from collections import OrderedDict

import pytest

import gpugrad as torch
from gpugrad import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.body = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x, twice=False):
        x = self.body(self.first(x)) * self.scale
        return x * 2 if twice else x


# Attributes --------------------------------------------------------------------------------------


def test_assignment_sorts_by_kind():
    net = Net()
    assert list(net._parameters) == ["scale"]
    assert list(net._buffers) == ["seen", "scratch"]
    assert list(net._modules) == ["first", "body"]
    assert net.scale is net._parameters["scale"] and net.first is net._modules["first"]
    net.seen = torch.ones(1)
    assert "seen" not in net.__dict__ and net._buffers["seen"].item() == 1
    net.number = 3
    assert net.__dict__["number"] == 3


def test_buffer_objects():
    net = nn.Module()
    net.a = nn.Buffer(torch.ones(2))
    net.b = nn.Buffer(torch.ones(2), persistent=False)
    assert list(net._buffers) == ["a", "b"] and list(net.state_dict()) == ["a"]
    assert isinstance(net.a, nn.Buffer) and not isinstance(torch.ones(2), nn.Buffer)
    net.b = torch.zeros(2)
    assert list(net.state_dict()) == ["a"]       # it stays non-persistent


def test_assignment_takes_the_place_of_another_kind():
    net = Net()
    net.first = nn.Parameter(torch.ones(1))
    assert "first" not in net._modules and "first" in net._parameters
    net.number = 3
    net.number = nn.ReLU()
    assert "number" not in net.__dict__ and isinstance(net.number, nn.ReLU)
    net.scratch = nn.Parameter(torch.ones(1))
    assert "scratch" not in net._non_persistent_buffers_set
    net.scale = None
    assert net._parameters["scale"] is None and "scale" not in dict(net.named_parameters())
    net.body = None
    assert net.body is None and [n for n, _ in net.named_modules()] == ["", "number"]


@pytest.mark.parametrize("name, value, text", [
    ("scale", 3, "cannot assign 'int' as parameter 'scale' (torch.nn.Parameter or None expected)"),
    ("scale", torch.ones(3), "cannot assign 'torch.FloatTensor' as parameter 'scale' "
                             "(torch.nn.Parameter or None expected)"),
    ("first", "a", "cannot assign 'str' as child module 'first' (torch.nn.Module or None "
                   "expected)"),
    ("seen", 3, "cannot assign 'int' as buffer 'seen' "
                "(torch.nn.Buffer, torch.Tensor or None expected)"),
])
def test_wrong_assignment(name, value, text):
    with pytest.raises(TypeError) as caught:
        setattr(Net(), name, value)
    assert str(caught.value) == text


def test_missing_attribute():
    with pytest.raises(AttributeError) as caught:
        _ = Net().nothing
    assert str(caught.value) == "'Net' object has no attribute 'nothing'"
    assert not hasattr(Net(), "nothing")


def test_delete():
    net = Net()
    del net.scale, net.scratch, net.first
    assert not net._parameters and list(net._buffers) == ["seen"] and list(net._modules) == ["body"]
    assert not net._non_persistent_buffers_set
    with pytest.raises(AttributeError):
        del net.nothing


@pytest.mark.parametrize("value, text", [
    (nn.Parameter(torch.ones(1)), "cannot assign parameters before Module.__init__() call"),
    (nn.ReLU(), "cannot assign module before Module.__init__() call"),
])
def test_forgotten_init(value, text):
    class Forgot(nn.Module):
        def __init__(self):
            self.member = value

    with pytest.raises(AttributeError) as caught:
        Forgot()
    assert str(caught.value) == text


def test_init_takes_no_arguments():
    with pytest.raises(TypeError, match=r"Module.__init__\(\) got an unexpected keyword .* 'a'"):
        nn.Module(a=1)
    with pytest.raises(TypeError, match="takes 1 positional argument but 3 were given"):
        nn.Module(1, 2)


def test_call_super_init():
    class Other:
        def __init__(self, n):
            self.n = n

    class Both(nn.Module, Other):
        call_super_init = True

        def __init__(self, n):
            super().__init__(n)

    assert Both(3).n == 3


def test_dir_lists_members():
    names = dir(nn.Sequential(nn.Linear(1, 1)))
    assert "training" in names and "0" not in names and names == sorted(names)
    assert {"first", "scale", "seen", "forward"} <= set(dir(Net()))


# Registration ------------------------------------------------------------------------------------


@pytest.mark.parametrize("call, kind, text", [
    (lambda m: m.register_parameter("a.b", None), KeyError, 'parameter name can\'t contain "."'),
    (lambda m: m.register_parameter("", None), KeyError,
     'parameter name can\'t be empty string ""'),
    (lambda m: m.register_parameter("forward", None), KeyError, "attribute 'forward' already "
                                                                "exists"),
    (lambda m: m.register_parameter(3, None), TypeError,
     "parameter name should be a string. Got int"),
    (lambda m: m.register_parameter("p", torch.ones(1)), TypeError,
     "cannot assign 'torch.FloatTensor' object to parameter 'p' "
     "(torch.nn.Parameter or None required)"),
    (lambda m: m.register_buffer("a.b", None), KeyError, 'buffer name can\'t contain "."'),
    (lambda m: m.register_buffer("", None), KeyError, 'buffer name can\'t be empty string ""'),
    (lambda m: m.register_buffer("first", None), KeyError, "attribute 'first' already exists"),
    (lambda m: m.register_buffer("b", 3), TypeError,
     "cannot assign 'int' object to buffer 'b' (torch Tensor or None required)"),
    (lambda m: m.add_module("a.b", nn.ReLU()), KeyError,
     'module name can\'t contain ".", got: a.b'),
    (lambda m: m.add_module("", nn.ReLU()), KeyError, 'module name can\'t be empty string ""'),
    (lambda m: m.add_module("scale", nn.ReLU()), KeyError, "attribute 'scale' already exists"),
    (lambda m: m.add_module("m", 3), TypeError, "int is not a Module subclass"),
    (lambda m: m.register_module(3, nn.ReLU()), TypeError,
     "module name should be a string. Got int"),
])
def test_wrong_registration(call, kind, text):
    with pytest.raises(kind) as caught:
        call(Net())
    assert caught.value.args[0] == text


def test_parameter_with_history():
    net = nn.Module()
    p = nn.Parameter(torch.ones(2))
    q = p.clone()
    q.__class__ = nn.Parameter
    with pytest.raises(ValueError, match="Cannot assign non-leaf Tensor to parameter 'p'"):
        net.register_parameter("p", q)


def test_registration_again_replaces():
    net = Net()
    new = nn.Parameter(torch.zeros(3))
    net.register_parameter("scale", new)
    net.register_module("first", None)
    assert net.scale is new and net.first is None


def test_get():
    net = Net()
    assert net.get_submodule("") is net and net.get_submodule("body.1") is net.body[1]
    assert net.get_parameter("body.0.weight") is net.body[0].weight
    assert net.get_buffer("seen") is net.seen
    for call, text in (
            (lambda: net.get_submodule("body.7"), "Sequential has no attribute `7`"),
            (lambda: net.get_submodule("scale"), "`scale` is not an nn.Module"),
            (lambda: net.get_parameter("first.nothing"), "Linear has no attribute `nothing`"),
            (lambda: net.get_parameter("seen"), "`seen` is not an nn.Parameter"),
            (lambda: net.get_buffer("scale"), "`scale` is not a buffer")):
        with pytest.raises(AttributeError) as caught:
            call()
        assert str(caught.value) == text


def test_set_submodule():
    net = Net()
    net.set_submodule("body.1", nn.Tanh())
    net.set_submodule("extra", nn.ReLU())
    assert isinstance(net.body[1], nn.Tanh) and isinstance(net.extra, nn.ReLU)
    with pytest.raises(AttributeError, match="Net has no attribute `more`"):
        net.set_submodule("more", nn.ReLU(), strict=True)
    with pytest.raises(AttributeError, match="`scale` is not an nn"):
        net.set_submodule("scale", nn.ReLU())
    with pytest.raises(ValueError, match="without a target name"):
        net.set_submodule("", nn.ReLU())
    with pytest.raises(ValueError, match="`module` is not an nn"):
        net.set_submodule("first", 3)


# Traversal ---------------------------------------------------------------------------------------


def test_names():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "scale", "first.weight", "first.bias", "body.0.weight", "body.0.bias"]
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [n for n, _ in net.first.named_parameters(prefix="x")] == ["x.weight", "x.bias"]
    assert [n for n, _ in net.named_buffers()] == ["seen", "scratch"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "body", "body.0", "body.1"]
    assert [n for n, _ in net.named_modules(prefix="net")] == [
        "net", "net.first", "net.body", "net.body.0", "net.body.1"]
    assert [n for n, _ in net.named_children()] == ["first", "body"]
    assert list(net.children()) == [net.first, net.body]
    assert next(net.modules()) is net and len(list(net.modules())) == 5
    assert len(list(net.parameters())) == 5 and len(list(net.buffers())) == 2


def test_shared_members_are_listed_once():
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, layer)
    net.again = layer.weight
    assert [n for n, _ in net.named_parameters()] == ["again", "0.bias"]
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)] == [
        "again", "0.weight", "0.bias", "1.weight", "1.bias"]
    assert len(list(net.children())) == 1 and len(list(net.modules())) == 2
    assert [n for n, _ in net.named_modules(remove_duplicate=False)] == ["", "0", "1"]
    assert list(net.state_dict()) == ["again", "0.weight", "0.bias", "1.weight", "1.bias"]


def test_apply_goes_from_the_leaves_up():
    order = []
    net = Net()
    assert net.apply(lambda m: order.append(type(m).__name__)) is net
    assert order == ["Linear", "Linear", "ReLU", "Sequential", "Net"]


# Modes -------------------------------------------------------------------------------------------


def test_train_and_eval():
    net = Net()
    assert net.training and net.eval() is net
    assert not any(m.training for m in net.modules())
    net.body.train()
    assert net.body[0].training and not net.first.training
    with pytest.raises(ValueError, match="training mode is expected to be boolean"):
        net.train(1)


def test_requires_grad_and_zero_grad():
    net = Net()
    assert net.requires_grad_(False) is net
    assert not any(p.requires_grad for p in net.parameters())
    net.requires_grad_()
    net(torch.ones(4, 2)).sum().backward()
    grad = net.scale.grad
    net.zero_grad(set_to_none=False)
    assert net.scale.grad is not None and net.scale.grad.abs().sum() == 0
    assert net.scale.grad is grad
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_zero_grad_with_a_graph():
    p = nn.Parameter(torch.ones(2))
    net = nn.ParameterList([p])
    (p ** 3).sum().backward(create_graph=True)
    assert net[0].grad.requires_grad
    net.zero_grad(set_to_none=False)
    assert not net[0].grad.requires_grad and net[0].grad.abs().sum() == 0


def test_forward_is_required():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError) as caught:
        Empty()(1)
    assert str(caught.value) == 'Module [Empty] is missing the required "forward" function'


def test_keyword_arguments_reach_forward():
    net, x = Net(), torch.ones(1, 2)
    assert torch.equal(net(x, twice=True), net(x) * 2)


# Devices and dtypes ------------------------------------------------------------------------------


def test_to_dtype_keeps_identity_and_moves_gradients():
    net = Net()
    net.register_buffer("count", torch.zeros(1, dtype=torch.int64))
    net(torch.ones(1, 2)).sum().backward()
    weight, grad = net.first.weight, net.first.weight.grad
    assert net.to(torch.float64) is net
    assert net.first.weight is weight and weight.dtype is torch.float64 and weight.is_leaf
    assert weight.grad is grad and grad.dtype is torch.float64
    assert net.seen.dtype is torch.float64 and net.count.dtype is torch.int64
    net.zero_grad()
    net(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    assert weight.grad.dtype is torch.float64


def test_casts():
    net = Net()
    net.count = nn.Buffer(torch.zeros(1, dtype=torch.int64))
    assert net.double().scale.dtype is torch.float64
    assert net.half().scale.dtype is torch.float16 and net.count.dtype is torch.int64
    assert net.float().scale.dtype is torch.float32
    assert net.type(torch.float64).seen.dtype is torch.float64
    assert net.to("cpu").scale.dtype is torch.float64
    assert net.to("cpu", torch.float32).scale.dtype is torch.float32
    assert net.to(torch.zeros(1, dtype=torch.float64)).scale.dtype is torch.float64
    assert net.to(device="cpu", dtype=torch.float32, non_blocking=True).scale.dtype is torch.float32
    assert net.cpu().scale.device == torch.device("cpu")


def test_shared_parameters_stay_shared():
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    net = nn.Sequential(a, b).double()
    assert net[0].weight is net[1].weight


def test_to_refuses():
    with pytest.raises(TypeError) as caught:
        Net().to(torch.int64)
    assert str(caught.value) == ("nn.Module.to only accepts floating point or complex dtypes, but "
                                 "got desired dtype=torch.int64")
    with pytest.raises(RuntimeError, match="at start of device string"):
        Net().to("nowhere")
    with pytest.raises(TypeError):
        Net().to([1])


def test_unsupported_moves_say_so():
    with pytest.raises(NotImplementedError, match="share_memory"):
        Net().share_memory()


# Printing ----------------------------------------------------------------------------------------


def test_repr():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 6, 5)
            self.parts = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()])
            self.missing = None
            self.add_module("none", None)

        def extra_repr(self):
            return "a=1\nb=2"

    assert repr(Named()) == """\
Named(
  a=1
  b=2
  (conv): Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1))
  (parts): ModuleList(
    (0-1): 2 x Linear(in_features=2, out_features=2, bias=True)
    (2): ReLU()
  )
  (none): None
)"""
    assert repr(nn.Module()) == "Module()"
    assert repr(Net()) == str(Net()) == """\
Net(
  (first): Linear(in_features=2, out_features=3, bias=True)
  (body): Sequential(
    (0): Linear(in_features=3, out_features=3, bias=True)
    (1): ReLU()
  )
)"""


# Copies ------------------------------------------------------------------------------------------


def test_deepcopy():
    net = Net()
    net.first.weight.requires_grad_(False)
    net.again = net.body
    net(torch.ones(1, 2)).sum().backward()
    twin = copy.deepcopy(net)
    assert type(twin.first.weight) is nn.Parameter and not twin.first.weight.requires_grad
    assert twin.again is twin.body and twin.body is not net.body
    for a, b in zip(net.parameters(), twin.parameters()):
        assert torch.equal(a, b) and a is not b
    with torch.no_grad():
        twin.scale.fill_(7)
    assert net.scale.sum() == 3
    assert repr(twin) == repr(net)


def test_pickle():
    net = Net().eval()
    twin = pickle.loads(pickle.dumps(net))
    assert not twin.training and list(twin.state_dict()) == list(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters()))
    x = torch.ones(2, 2)
    assert torch.equal(net(x), twin(x))
    assert isinstance(twin.scale, nn.Parameter) and twin.scale.requires_grad


def test_state_of_an_older_pickle():
    net = nn.Module.__new__(nn.Module)
    net.__setstate__({"_parameters": {}, "_buffers": {}, "_modules": {}, "training": True})
    net.register_buffer("b", torch.ones(1), persistent=False)
    assert net.state_dict() == OrderedDict()


# Parameter ---------------------------------------------------------------------------------------


def test_parameter():
    x = torch.ones(2)
    p = nn.Parameter(x)
    assert p.requires_grad and p.is_leaf and isinstance(p, torch.Tensor)
    assert repr(p) == "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    assert type(p + 1) is type(p.data) is type(p.detach()) is torch.Tensor
    x.fill_(3)
    assert p.data.sum() == 6                     # the memory is shared
    assert not nn.Parameter(x, requires_grad=False).requires_grad
    assert nn.Parameter().shape == (0,)
    with torch.no_grad():
        assert nn.Parameter(x).requires_grad
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(torch.arange(3))
    with pytest.raises(AttributeError):
        nn.Parameter([1.0])
    q = nn.Parameter(x.requires_grad_() * 2)
    assert q.is_leaf and q.grad_fn is None


def test_parameter_copies():
    p = nn.Parameter(torch.ones(2), requires_grad=False)
    q = copy.deepcopy({"a": p, "b": p})
    assert q["a"] is q["b"] and type(q["a"]) is nn.Parameter and not q["a"].requires_grad
    assert type(pickle.loads(pickle.dumps(p))) is nn.Parameter

    class Mine(nn.Parameter):
        pass

    assert type(Mine(torch.ones(1))) is Mine and type(copy.deepcopy(Mine(torch.ones(1)))) is Mine
