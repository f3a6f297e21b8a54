"""What Module and its machinery do, beside PyTorch: results, texts, errors."""
from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
from outcomes import check, errors, net

CASES: dict[str, Any] = {}
# Ours go on after PyTorch's text, or say more.
TEXTS_DIFFER: set[str] = set()


def case(fn: Any) -> Any:
    assert fn.__name__ not in CASES
    CASES[fn.__name__] = fn
    return fn


# Attributes and registration ---------------------------------------------------------------------

@case
def before_init(t):
    class A(t.nn.Module):
        def __init__(self, what):
            if what == "p":
                self.p = t.nn.Parameter(t.ones(1))
            elif what == "m":
                self.m = t.nn.Linear(1, 1)
            elif what == "b":
                self.b = t.nn.Buffer(t.ones(1))
            elif what == "plain":
                self.x = 3
            elif what == "get":
                self.absent          # noqa: B018
            elif what == "rp":
                self.register_parameter("p", t.nn.Parameter(t.ones(1)))
            elif what == "rb":
                self.register_buffer("p", t.ones(1))
            elif what == "tensor":
                self.t = t.ones(1)
    return errors(t, *[lambda w=w: A(w) for w in ("p", "m", "b", "plain", "get", "rp", "rb",
                                                  "tensor")])


@case
def use_before_init(t):
    class A(t.nn.Module):
        def __init__(self):
            pass
    a = A()
    return errors(t, lambda: a.parameters, lambda: list(a.named_children()), lambda: a.training,
                  lambda: a.foo)


@case
def constructor_arguments(t):
    class A(t.nn.Module):
        def __init__(self, *args, **kw):
            super().__init__(*args, **kw)
    return errors(t, lambda: A(1), lambda: A(1, 2), lambda: A(x=1), lambda: A(1, x=1))


@case
def several_bases(t):
    said = []

    class B:
        def __init__(self, *args, **kw):
            said.append((args, kw))

    class A(t.nn.Module, B):
        call_super_init = True
    A(1, x=2)
    return said


@case
def attribute_kinds(t):
    m = t.nn.Module()
    m.a = t.nn.Parameter(t.ones(1))
    m.a = None
    kinds = [dict(m._parameters)]
    m.b = t.nn.Linear(1, 1)
    m.b = None
    kinds.append(dict(m._modules))
    m.b = t.nn.Parameter(t.zeros(1))
    kinds.append([list(m._parameters), list(m._modules)])
    m.register_buffer("c", t.ones(2))
    m.c = t.zeros(1)
    m.c = None
    m.c = t.nn.Linear(1, 1)
    kinds.append([list(m._buffers), list(m._modules)])
    m.d = 3
    m.d = t.nn.Parameter(t.zeros(1))
    kinds.append("d" in m.__dict__)
    del m.d
    m.e = t.nn.Buffer(t.ones(1), persistent=False)
    m.f = t.nn.Buffer(t.ones(1))
    kinds.append([list(m.state_dict()), type(m.e).__name__, isinstance(m.e, t.nn.Buffer)])
    m.e = t.zeros(3)
    kinds.append(list(m.state_dict()))
    return kinds


@case
def wrong_assignments(t):
    m = t.nn.Module()
    m.p, m.m = t.nn.Parameter(t.ones(1)), t.nn.Linear(1, 1)
    m.register_buffer("b", t.ones(1))

    def put(name, value):
        return lambda: setattr(m, name, value)
    return errors(t, put("p", t.ones(1)), put("p", 3), put("m", 3), put("m", t.ones(1)),
                  put("b", 3), put("b", "x"), put("b", [1]))


@case
def wrong_registrations(t):
    m = t.nn.Linear(2, 2)
    p = t.nn.Parameter(t.ones(1))
    return errors(
        t, lambda: m.register_parameter("a.b", p), lambda: m.register_parameter("", p),
        lambda: m.register_parameter("forward", p), lambda: m.register_parameter(3, p),
        lambda: m.register_parameter("p", 3), lambda: m.register_parameter("p", t.ones(1)),
        lambda: m.register_parameter("q", p * 1),
        lambda: m.register_buffer("a.b", p), lambda: m.register_buffer("", p),
        lambda: m.register_buffer("weight", p), lambda: m.register_buffer(3, p),
        lambda: m.register_buffer("p", 3), lambda: m.register_buffer("p", "abc"),
        lambda: m.add_module("a.b", m), lambda: m.add_module("", m), lambda: m.add_module(3, m),
        lambda: m.add_module("weight", m), lambda: m.add_module("x", 3),
        lambda: m.register_module("x", t.nn.Linear), lambda: m.register_module("training", m),
        lambda: m.absent, lambda: delattr(m, "absent"))


@case
def dir_of_module(t):
    m = t.nn.Sequential(t.nn.Linear(1, 1))
    m.extra = 1
    m.register_buffer("buf", t.ones(1))
    return [n in dir(m) for n in ("0", "extra", "buf", "forward", "weight")] + [
        n in dir(m[0]) for n in ("weight", "bias")]


# Looking up and going through --------------------------------------------------------------------

@case
def lookups(t):
    n = net(t)
    return errors(
        t, lambda: n.get_submodule("") is n, lambda: n.get_submodule("second.0.conv"),
        lambda: n.get_submodule("second.5"), lambda: n.get_submodule("scale"),
        lambda: n.get_submodule("second.0.absent.x"), lambda: n.get_submodule("gone"),
        lambda: n.get_parameter("first.conv.bias").shape[0],
        lambda: n.get_parameter("first.conv.absent"), lambda: n.get_parameter("kept"),
        lambda: n.get_parameter("first.norm.running_mean"), lambda: n.get_parameter("absent.x"),
        lambda: n.get_buffer("first.norm.running_mean"), lambda: n.get_buffer("kept"),
        lambda: n.get_buffer("scale"), lambda: n.get_buffer("first.absent"),
        lambda: n.get_buffer("nothing"))


@case
def set_submodule(t):
    n = net(t)
    n.set_submodule("second.0.conv", t.nn.Identity())
    n.set_submodule("first.new", t.nn.ReLU())
    text = repr(n)
    return [text, *errors(
        t, lambda: n.set_submodule("", t.nn.ReLU()), lambda: n.set_submodule("scale", t.nn.ReLU()),
        lambda: n.set_submodule("a.b", t.nn.ReLU()), lambda: n.set_submodule("first.conv", 3),
        lambda: n.set_submodule("first.other", t.nn.ReLU(), strict=True),
        lambda: n.set_submodule("scale.x", t.nn.ReLU()),
        lambda: n.set_submodule("first.conv", t.nn.ReLU(), strict=True))]


@case
def names(t):
    n = net(t)
    n.again, n.shared = n.first, n.scale
    n.second.add_module("tied", n.first.conv)
    return [[k for k, _ in n.named_parameters()], [k for k, _ in n.named_buffers()],
            [k for k, _ in n.named_parameters(remove_duplicate=False)],
            [k for k, _ in n.named_buffers(remove_duplicate=False)],
            [k for k, _ in n.named_parameters("pre", recurse=False)],
            [k for k, _ in n.named_buffers("pre", recurse=False)],
            [k for k, _ in n.named_modules()], [k for k, _ in n.named_modules(prefix="a.b")],
            [k for k, _ in n.named_modules(remove_duplicate=False)],
            [k for k, _ in n.named_children()], len(list(n.children())), len(list(n.modules())),
            len(list(n.parameters())), len(list(n.parameters(recurse=False))),
            len(list(n.buffers()))]


@case
def texts(t):
    class Odd(t.nn.Module):
        def extra_repr(self):
            return "one=1,\ntwo=2"

        def _get_name(self):
            return "Odder"
    o = Odd()
    first = repr(o)
    o.child = t.nn.Sequential(Odd(), t.nn.ModuleList([t.nn.Linear(1, 1), t.nn.Linear(1, 1),
                                                       t.nn.ReLU()]))
    return [first, repr(o), repr(net(t)), repr(t.nn.ModuleDict({"a": Odd(), "b": t.nn.ReLU()})),
            repr(t.nn.Module()), repr(t.nn.Sequential()), repr(t.nn.ModuleList())]


# Moving and casting ------------------------------------------------------------------------------

@case
def casts(t):
    n = net(t)
    n.register_buffer("count", t.zeros(1, dtype=t.int64))
    out = []
    for change in (n.double, n.half, n.bfloat16, n.float, lambda: n.to(t.float64),
                   lambda: n.to("cpu", t.float32), lambda: n.to(t.zeros(1, dtype=t.float64)),
                   lambda: n.type(t.float32), lambda: n.to(dtype=t.half)):
        assert change() is n
        out.append([str(v.dtype) for v in n.state_dict().values()])
    return out


@case
def cast_errors(t):
    n = t.nn.Linear(2, 2)
    return errors(t, lambda: n.to(t.int64), lambda: n.to("absent"), lambda: n.to(dtype=t.bool))


@case
def identity_of_parameters(t):
    n = t.nn.Linear(2, 2)
    w = n.weight
    n(t.ones(1, 2)).sum().backward()
    g = n.weight.grad
    n.double()
    return [n.weight is w, n.weight.grad is g, str(n.weight.grad.dtype), w.requires_grad, w.is_leaf]


@case
def requires_grad(t):
    n = net(t)
    a = [p.requires_grad for p in n.requires_grad_(False).parameters()]
    return [a, [p.requires_grad for p in n.requires_grad_().parameters()],
            [b.requires_grad for b in n.buffers()]]


@case
def meta(t):
    n = net(t).to("meta")
    said = errors(t, lambda: n.to("cpu"), lambda: n.cpu(), lambda: n.double().scale)
    n.to_empty(device="cpu")
    return said, [(k, str(v.device), str(v.dtype), type(v).__name__)
                  for k, v in n.state_dict(keep_vars=True).items()]


@case
def to_empty_not_deep(t):
    n = net(t).to("meta").to_empty(device="cpu", recurse=False)
    return [str(p.device) for p in n.state_dict().values()]


@case
def assign_to_meta(t):
    with t.device("meta"):
        n = t.nn.Linear(2, 3)
    n.bias.requires_grad_(False)
    n.load_state_dict({"weight": t.ones(3, 2), "bias": t.zeros(3)})
    n.load_state_dict({"weight": t.ones(3, 2), "bias": t.zeros(3)}, assign=True)
    return n.weight, n.bias


@case
def skip_init(t):
    m = t.nn.utils.skip_init(t.nn.Linear, 2, 3, bias=False)
    return [repr(m), str(m.weight.device), tuple(m.weight.shape)] + errors(
        t, lambda: t.nn.utils.skip_init(t.nn.ReLU, 3), lambda: t.nn.utils.skip_init(3),
        lambda: t.nn.utils.skip_init(t.ones, 2),
        lambda: str(t.nn.utils.skip_init(t.nn.Linear, 2, 3, dtype=t.half).weight.dtype))


@case
def modes(t):
    n = net(t)
    return [n.eval() is n, [m.training for m in n.modules()], n.train().training, *errors(
        t, lambda: n.train(1), lambda: n.train("x"), lambda: n.apply(3))]


# Copies and files --------------------------------------------------------------------------------

@case
def deep_copies(t):
    n = net(t)
    n.tied = n.scale
    n.first.register_forward_hook(len_hook)
    c = copy.deepcopy(n)
    return [c.tied is c.scale, c.scale is n.scale, list(c.state_dict()),
            len(c.first._forward_hooks), type(c.scale).__name__, c.training, "lost" in
            c._non_persistent_buffers_set]


def len_hook(module: Any, args: Any, out: Any) -> None:
    pass


@case
def pickles(t):
    m = t.nn.Sequential(t.nn.Linear(2, 2), t.nn.BatchNorm1d(2), t.nn.ParameterList([t.ones(1)]),
                        t.nn.ModuleDict({"a": t.nn.ReLU()}))
    m[0].register_forward_hook(len_hook)
    m[1].register_buffer("lost", t.ones(1), persistent=False)
    m.eval()
    c = pickle.loads(pickle.dumps(m))
    return [repr(c), list(c.state_dict()), c.training, len(c[0]._forward_hooks),
            c(t.ones(1, 2)) if False else c[0](t.ones(1, 2)).shape[1], c[2][0], c[1].lost]


@case
def saved_module(t):
    file = io.BytesIO()
    t.save(t.nn.Linear(2, 1).state_dict(), file)
    file.seek(0)
    s = t.load(file)
    return [type(s).__name__, list(s), s._metadata]


@case
def shallow_copy(t):
    n = t.nn.Linear(1, 1)
    c = copy.copy(n)
    c.weight = t.nn.Parameter(t.zeros(1, 1))
    return c.weight is n.weight, list(n._parameters)


@case
def setstate(t):
    n = t.nn.Linear(1, 1)
    state = dict(n.__dict__)
    state.pop("_non_persistent_buffers_set")
    m = t.nn.Linear.__new__(t.nn.Linear)
    m.__setstate__(state)
    return list(m.state_dict()), m._forward_hooks is not None, m(t.ones(1, 1)).shape[0]


@case
def compiled(t):
    m = t.nn.Linear(1, 1)
    m._call_impl(t.ones(1, 1))
    return errors(t, lambda: m._call_impl(t.ones(1, 1)).shape[0],
                  lambda: m._wrapped_call_impl(t.ones(1, 1)).shape[0], lambda: m.T_destination)


@case
def zero_grad(t):
    m = t.nn.Linear(1, 1)
    m(t.ones(1, 1)).sum().backward()
    m.zero_grad(set_to_none=False)
    zeros = m.weight.grad
    m.zero_grad()
    return zeros, m.weight.grad


@case
def no_forward(t):
    class A(t.nn.Module):
        pass
    return errors(t, lambda: A()(1), lambda: A().forward(1), lambda: t.nn.ModuleList()(1),
                  lambda: t.nn.ModuleDict()(1), lambda: t.nn.ParameterList()(1),
                  lambda: t.nn.ParameterDict()(1))


@case
def module_errors_keep_type_and_args(t):
    class A(t.nn.Module):
        def forward(self, x):
            raise KeyError("a", 1)
    try:
        t.nn.Sequential(A())(1)
    except KeyError as e:
        return e.args, str(e), e.__cause__, e.__context__
    return None


@pytest.mark.parametrize("name", sorted(CASES))
def test_same(name):
    check(CASES[name], name not in TEXTS_DIFFER)
