"""Containers, parameters, lazy modules and functional calls beside PyTorch."""
from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from outcomes import check, errors

CASES: dict[str, Any] = {}
# Ours go on after PyTorch's text, or say more.
TEXTS_DIFFER = {"module_list", "parameter_list_errors", "parameter_dict_errors", "parameter_errors",
                "functional_call"}


def case(fn: Any) -> Any:
    assert fn.__name__ not in CASES
    CASES[fn.__name__] = fn
    return fn


# Containers --------------------------------------------------------------------------------------

@case
def sequential(t):
    def s(*n):
        return t.nn.Sequential(*[t.nn.Linear(1, i) for i in n])
    a = s(1, 2, 3, 4)
    b = t.nn.Sequential(OrderedDict(x=t.nn.ReLU(), y=t.nn.Tanh()))
    out = [repr(a[1:3]), repr(a[-1]), len(a), repr(b[::-1]), repr(b.x), [k for k, _ in
                                                                        b.named_children()]]
    del a[1]
    out.append(repr(a))
    del a[:2]
    out.append(repr(a))
    out += [repr(a.pop(0)), repr(s(1) + s(2)), repr(s(1) * 2), repr(2 * s(1)),
            repr(s(1, 2).append(t.nn.ReLU())), repr(s(1, 2).insert(1, t.nn.ReLU())),
            repr(s(1).extend(s(2, 3))), repr(s(1, 2).insert(-1, t.nn.ReLU()))]
    c = s(1)
    c += s(2)
    c *= 2
    out += [repr(c), "1" in dir(c), list(c.state_dict())]
    c[0] = t.nn.ReLU()
    out.append(repr(c))
    return out


@case
def sequential_errors(t):
    s = t.nn.Sequential(t.nn.ReLU())
    return errors(
        t, lambda: s[1], lambda: s[-2], lambda: s["0"], lambda: s.__setitem__(3, t.nn.ReLU()),
        lambda: s.__delitem__(2), lambda: s + 1, lambda: s.__iadd__(3), lambda: s * 0,
        lambda: s * 1.5, lambda: s.insert(5, t.nn.ReLU()), lambda: s.insert(0, 3),
        lambda: s.append(3), lambda: t.nn.Sequential(3), lambda: t.nn.Sequential([t.nn.ReLU()]),
        lambda: s.pop(4), lambda: s.extend([3]), lambda: s.__setitem__(0, 3),
        lambda: t.nn.Sequential({"a": t.nn.ReLU()}), lambda: s.extend(3), lambda: s.__imul__(-1),
        lambda: s(1, 2))


@case
def module_list(t):
    def m(*n):
        return t.nn.ModuleList([t.nn.Linear(1, i) for i in n])
    a = m(1, 1, 2)
    out = [repr(a), repr(a[:2]), repr(a[-1]), len(a), repr(a + m(3)), repr(a.pop()), repr(a),
           repr(a.append(t.nn.ReLU())), repr(a.extend(m(5, 6)))]
    a.insert(1, t.nn.Tanh())
    a += [t.nn.ReLU()]
    out.append(repr(a))
    del a[0], a[1:3]
    out += [repr(a), list(a.state_dict()), [type(x).__name__ for x in a], "0" in dir(a)]
    a[0] = t.nn.Identity()
    return [*out, repr(a)]


@case
def module_list_errors(t):
    m = t.nn.ModuleList([t.nn.ReLU()])
    return errors(t, lambda: m[1], lambda: m[-2], lambda: m.append(3), lambda: m.extend(3),
                  lambda: m.extend([3]), lambda: t.nn.ModuleList(3), lambda: m.__setitem__(4, m),
                  lambda: m.__delitem__(9), lambda: m.pop(7), lambda: m[1.5], lambda: m(3),
                  lambda: t.nn.ModuleList([None])[0], lambda: m["x"])


@case
def module_dict(t):
    d = t.nn.ModuleDict({"b": t.nn.ReLU(), "a": t.nn.Tanh()})
    d["c"] = t.nn.Linear(1, 1)
    out = [repr(d), list(d), list(d.keys()), len(d), "a" in d, repr(d["a"]), repr(d.pop("b")),
           [k for k, _ in d.items()], [repr(v) for v in d.values()]]
    d.update([("x", t.nn.ReLU()), ["y", t.nn.ReLU()]])
    d.update({"a": t.nn.GELU()})
    d.update(t.nn.ModuleDict({"z": t.nn.ReLU()}))
    del d["x"]
    out += [repr(d), list(d.state_dict())]
    d.clear()
    return [*out, len(d), repr(d)]


@case
def module_dict_errors(t):
    d = t.nn.ModuleDict()
    return errors(t, lambda: d["a"], lambda: d.pop("a"), lambda: d.update(3),
                  lambda: d.update([1]), lambda: d.update([("a",)]), lambda: d.update([("a", 3)]),
                  lambda: d.__setitem__("a", 3), lambda: d.__setitem__("a.b", t.nn.ReLU()),
                  lambda: d.__setitem__("keys", t.nn.ReLU()), lambda: d.__setitem__(3, t.nn.ReLU()),
                  lambda: d.__delitem__("q"), lambda: t.nn.ModuleDict({"items": t.nn.ReLU()}))


@case
def parameter_list(t):
    p = t.nn.ParameterList([t.ones(2), t.nn.Parameter(t.zeros(1, 2)), 3, "x", None])
    p.append(t.ones(1, dtype=t.float64))
    p.extend([t.ones(3)])
    p += [t.zeros(2)]
    out = [repr(p), len(p), p[0], p[-1], [type(v).__name__ for v in p], list(p.state_dict()),
           repr(p[:2]), [k for k, _ in p.named_parameters()]]
    p[0] = t.zeros(5)
    p[1] = 7
    out += [repr(p), "0" in dir(p), repr(t.nn.ParameterList()), len(t.nn.ParameterList(
        p for p in [t.ones(1)]))]
    return out


@case
def parameter_list_errors(t):
    p = t.nn.ParameterList([t.ones(1)])
    return errors(t, lambda: p[1], lambda: p[-2], lambda: p.extend(3), lambda: p.extend(t.ones(2)),
                  lambda: p.__setitem__(5, t.ones(1)), lambda: p["0"], lambda: p(1),
                  lambda: p.append(t.ones(1).int()), lambda: t.nn.ParameterList(3),
                  lambda: p.pop(), lambda: p.__delitem__(0), lambda: p.insert(0, 1))


@case
def parameter_dict(t):
    d = t.nn.ParameterDict({"b": t.ones(2), "a": t.nn.Parameter(t.zeros(1))})
    d["c"] = t.ones(1)
    d["n"] = 3
    out = [repr(d), list(d), len(d), "a" in d, d["a"], list(d.keys()), [k for k, _ in d.items()],
           len(list(d.values())), list(reversed(d)), d.pop("b"), d.popitem(), list(d.state_dict()),
           d.get("a"), d.get("q"), d.get("q", 1), d.setdefault("s", t.ones(1)), d.setdefault("a"),
           repr(d | t.nn.ParameterDict({"z": t.ones(1)})), repr(d.copy()),
           repr(d.fromkeys("xy", 1)), repr(d.fromkeys(["q"]))]
    d |= t.nn.ParameterDict({"w": t.ones(1)})
    d.update([("k", t.ones(1))])
    d.update(OrderedDict(y=t.ones(1), x=t.ones(1)))
    d.update({"m": t.ones(1), "l": t.ones(1)})
    del d["a"]
    out += [list(d), repr(d)]
    d.clear()
    return [*out, len(d), repr(d)]


@case
def parameter_dict_errors(t):
    d = t.nn.ParameterDict()
    return errors(t, lambda: d["a"], lambda: d.pop("a"), lambda: d.popitem(), lambda: d.update(3),
                  lambda: d.update([1]), lambda: d.update([("a",)]), lambda: d(1),
                  lambda: d.__setitem__(3, t.ones(1)), lambda: d.__setitem__("a.b", t.ones(1)),
                  lambda: d.__delitem__("q"), lambda: d[3], lambda: d.setdefault("z"))


# Lazy modules -----------------------------------------------------------------------------------

LAZY = [("LazyLinear", (3,), {}, (2, 4)), ("LazyLinear", (3, False), {}, (5,)),
        ("LazyConv1d", (4, 3), {}, (2, 3, 8)), ("LazyConv2d", (4, 3), {}, (2, 3, 8, 8)),
        ("LazyConv2d", (4, 3), {"groups": 2, "padding": "same", "bias": False,
                                "padding_mode": "circular"}, (2, 4, 8, 8)),
        ("LazyConv2d", (4, 3), {}, (3, 8, 8)),
        ("LazyConv3d", (4, 2), {"stride": 2}, (2, 3, 4, 4, 4)),
        ("LazyConvTranspose1d", (4, 3), {"output_padding": 1, "stride": 2}, (2, 3, 8)),
        ("LazyConvTranspose2d", (4, 3), {"groups": 2}, (2, 4, 5, 5)),
        ("LazyConvTranspose3d", (4, 2), {}, (2, 3, 3, 3, 3)),
        ("LazyBatchNorm1d", (), {}, (2, 3, 8)), ("LazyBatchNorm1d", (), {}, (2, 3)),
        ("LazyBatchNorm2d", (), {"affine": False}, (2, 3, 8, 8)),
        ("LazyBatchNorm2d", (), {"bias": False}, (2, 3, 8, 8)),
        ("LazyBatchNorm3d", (1e-3, None), {}, (2, 3, 4, 4, 4)),
        ("LazyBatchNorm1d", (), {"affine": False, "track_running_stats": False}, (2, 3)),
        ("LazyInstanceNorm1d", (), {}, (2, 3, 8)),
        ("LazyInstanceNorm2d", (), {"track_running_stats": False}, (2, 3, 8, 8)),
        ("LazyInstanceNorm3d", (), {}, (2, 3, 4, 4, 4)),
        ("LazyConv2d", (4, 3), {"groups": 2}, (2, 3, 8, 8)), ("LazyConv2d", (4, 3), {}, (2,)),
        ("LazyBatchNorm1d", (), {}, (2,)), ("LazyBatchNorm2d", (), {}, (3, 8, 8)),
        ("LazyLinear", (3,), {"dtype": "float64"}, (2, 4))]


@pytest.mark.parametrize("name, args, kw, shape", LAZY, ids=range(len(LAZY)))
def test_lazy(name, args, kw, shape):
    def use(t):
        given = {k: getattr(t, v) if k == "dtype" else v for k, v in kw.items()}
        m = getattr(t.nn, name)(*args, **given)
        out = [repr(m), [(k, repr(v)) for k, v in m.state_dict().items()],
               [k for k, _ in m.named_parameters()], m.has_uninitialized_params()]
        t.manual_seed(3)
        x = t.linspace(0, 1, 10000)[:int(np.prod(shape))].reshape(shape)
        said = errors(t, lambda: m(x.to(t.float64) if "dtype" in kw else x))
        return [*out, said, repr(m), type(m).__name__, m.state_dict() if "Lazy" not in repr(m)
                else None, len(m._forward_pre_hooks), t.rand(1)]
    check(use)


@case
def lazy_states(t):
    m = t.nn.LazyLinear(3)
    done = m.load_state_dict(t.nn.Linear(5, 3).state_dict())
    other = t.nn.LazyLinear(3)
    waiting = t.nn.LazyLinear(3).state_dict()
    conv = t.nn.LazyConv2d(4, 3)
    conv.load_state_dict(t.nn.Conv2d(3, 4, 3).state_dict())
    norm = t.nn.LazyBatchNorm1d()
    norm.load_state_dict(t.nn.BatchNorm1d(4).state_dict())
    return [repr(done), repr(m), m.weight.shape, m(t.ones(1, 5)).shape, repr(m),
            *errors(t, lambda: repr(other.load_state_dict(waiting)), lambda: repr(other.weight),
                    lambda: t.nn.Linear(2, 3).load_state_dict(waiting),
                    lambda: t.nn.LazyLinear(3).load_state_dict({"weight": t.ones(2, 2)}),
                    lambda: conv(t.ones(1, 3, 4, 4)).shape, lambda: repr(conv),
                    lambda: norm(t.ones(2, 4)).shape, lambda: repr(norm))]


@case
def lazy_network(t):
    n = t.nn.Sequential(t.nn.LazyConv2d(4, 3), t.nn.ReLU(), t.nn.LazyBatchNorm2d(), t.nn.Flatten(),
                        t.nn.LazyLinear(2))
    before = repr(n)
    opt = t.optim.SGD(n.parameters(), lr=0.1)
    n.double().train()
    x = t.ones(2, 3, 5, 5, dtype=t.float64)
    y = n(x)
    y.sum().backward()
    opt.step()
    return [before, repr(n), y, sum(p.numel() for p in n.parameters()), [
        str(p.dtype) for p in n.state_dict().values()], n[0].weight.grad is not None]


@case
def lazy_parameters(t):
    u, b = t.nn.UninitializedParameter(), t.nn.UninitializedBuffer(dtype=t.half, device="meta")
    lazy = t.nn.parameter.is_lazy
    frozen = t.nn.UninitializedParameter(requires_grad=False)
    out = [repr(u), repr(b), str(u), lazy(u), lazy(b), lazy(t.ones(1)), u.requires_grad,
           frozen.requires_grad, str(b.dtype), str(b.device), u.size(), u.is_leaf, u.grad, u.data,
           isinstance(u, t.nn.Parameter), repr(copy.deepcopy(u)),
           repr(pickle.loads(pickle.dumps(u))), b.persistent, repr(b.double()),
           str(b.double().dtype), isinstance(b, t.nn.Buffer)]
    errs = errors(t, lambda: u.shape, lambda: u.share_memory_())
    kinds = [type_of(e) for e in (lambda: u + 1, lambda: u.numel(), lambda: t.sum(u),
                                  lambda: u.detach(), lambda: u == 1, lambda: len(u),
                                  lambda: u.zero_())]
    u.materialize((2, 3))
    b.materialize((4,))
    return [*out, *errs, kinds, type(u).__name__, tuple(u.shape), u.requires_grad, tuple(b.shape),
            type(b).__name__, str(b.device), lazy(u), hash(u) == id(u)]


def type_of(use: Any) -> Any:
    try:
        return use()
    except Exception as e:
        return type(e).__name__


@case
def lazy_mixin(t):
    class Scale(t.nn.modules.lazy.LazyModuleMixin, t.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = t.nn.UninitializedParameter()
            self.register_buffer("b", t.nn.UninitializedBuffer())

        def forward(self, x, scale=1):
            return x * self.w * scale

    class Half(Scale):
        def initialize_parameters(self, x, scale=1):
            self.w.materialize(x.shape)

    class Whole(Half):
        def initialize_parameters(self, x, scale=1):
            super().initialize_parameters(x)
            self.b.materialize((scale,))
            with t.no_grad():
                self.w.fill_(2.)
    w = Whole()
    return [*errors(t, lambda: Scale()(t.ones(2)), lambda: Half()(t.ones(2)), lambda: repr(Scale()),
                    lambda: t.nn.modules.lazy.LazyModuleMixin()), w(t.ones(2), scale=3),
            type(w).__name__, tuple(w.b.shape), hasattr(w, "_load_hook"), w(t.ones(2))]


@case
def lazy_copies(t):
    m = t.nn.Sequential(t.nn.LazyLinear(2), t.nn.LazyBatchNorm1d())
    out = []
    for c in (copy.deepcopy(m[0]), pickle.loads(pickle.dumps(m))):
        out += [repr(c), c(t.ones(3, 4)).shape, repr(c)]
    return [*out, repr(m)]


@case
def lazy_meta(t):
    out = [str(t.nn.LazyLinear(2).to("meta").weight.device)]
    with t.device("meta"):
        m = t.nn.LazyLinear(2)
    return [*out, m.weight.device.type, m(t.ones(1, 3, device="meta")), repr(m)]


# Parameters --------------------------------------------------------------------------------------

@case
def parameters(t):
    x = t.ones(2)
    p, q = t.nn.Parameter(x), t.nn.Parameter(requires_grad=False)
    with t.no_grad():
        r = t.nn.Parameter(x)
    return [p, q, r, repr(p), p.data_ptr() == x.data_ptr(), isinstance(p, t.Tensor),
            isinstance(x, t.nn.Parameter), p + 1, p.detach(), copy.deepcopy(p), copy.copy(p),
            pickle.loads(pickle.dumps(p)), t.nn.Parameter(p), repr(t.nn.Buffer(x)),
            isinstance(t.nn.Buffer(x), t.nn.Buffer), isinstance(t.nn.Buffer(x), t.Tensor),
            t.nn.Buffer(x).persistent, t.nn.Buffer(x, persistent=False).persistent]


@case
def parameter_errors(t):
    return errors(t, lambda: t.nn.Parameter(t.arange(2)),
                  lambda: t.nn.Parameter(t.arange(2), requires_grad=False),
                  lambda: t.nn.Buffer(t.arange(2)))


@case
def functional_call(t):
    m = t.nn.Sequential(t.nn.Linear(2, 1), t.nn.BatchNorm1d(1))
    m.eval()
    new = {"0.weight": t.ones(1, 2), "0.bias": t.zeros(1), "1.running_mean": t.ones(1)}
    tied = t.nn.Linear(2, 2)
    tied.other = tied.weight
    f = t.func.functional_call
    old = t.nn.utils.stateless.functional_call
    x = t.ones(1, 2)
    return [f(m, new, x), f(m, new, (x,)), f(m, (new, {"1.weight": t.zeros(1)}), (x,)),
            f(tied, {"weight": t.zeros(2, 2)}, x), m[0].weight is not new["0.weight"],
            *errors(t, lambda: f(m, new, (x,), strict=True), lambda: f(m, 3, x),
                    lambda: f(m, (new, new), x), lambda: f(m, {"absent": x}, x),
                    lambda: f(m, [{"a": 1}, 3], x), lambda: f(m, {**new, "q.x": x}, x, strict=True),
                    lambda: f(tied, {"weight": t.zeros(2, 2), "other": t.ones(2, 2)}, x),
                    lambda: f(tied, {"weight": t.zeros(2, 2), "other": t.ones(2, 2)}, x,
                              tie_weights=False), lambda: old(m, new, x),
                    lambda: f(m, {"0.weight": 3}, x), lambda: f(m, new, x, {"y": 1}))]


@case
def stacked_state(t):
    models = [t.nn.Linear(1, 2) for _ in range(3)]
    params, buffers = t.func.stack_module_state(models)
    bns = t.func.stack_module_state([t.nn.BatchNorm1d(1), t.nn.BatchNorm1d(1)])
    return [params, buffers, bns, *errors(
        t, lambda: t.func.stack_module_state([]),
        lambda: t.func.stack_module_state([t.nn.Linear(1, 1), t.nn.ReLU()]),
        lambda: t.func.stack_module_state([t.nn.ReLU(), t.nn.ReLU().eval()]))]


@pytest.mark.parametrize("name", sorted(CASES))
def test_same(name):
    check(CASES[name], name not in TEXTS_DIFFER)
