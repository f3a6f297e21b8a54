"""Hooks and states of modules beside PyTorch: results, texts, errors."""
from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
from outcomes import check, errors, net

CASES: dict[str, Any] = {}
# Ours go on after PyTorch's text, or say more.
TEXTS_DIFFER = {"extra_state"}


def case(fn: Any) -> Any:
    assert fn.__name__ not in CASES
    CASES[fn.__name__] = fn
    return fn


# Hooks -------------------------------------------------------------------------------------------

@case
def forward_hooks(t):
    said = []
    m = t.nn.Linear(1, 1)
    m.weight.data.fill_(2.)
    m.bias.data.fill_(1.)

    def pre(n):
        return lambda mod, args: said.append(("pre", n, args))

    def post(n):
        return lambda mod, args, out: said.append(("post", n, args, out.item()))
    handles = [m.register_forward_pre_hook(pre(1)), m.register_forward_pre_hook(pre(2),
                                                                                prepend=True),
               m.register_forward_hook(post(1)), m.register_forward_hook(post(2), prepend=True),
               m.register_forward_pre_hook(lambda mod, args: args[0] + 1),
               m.register_forward_hook(lambda mod, args, out: out * 10),
               m.register_forward_pre_hook(lambda mod, args, kw: ((args[0],), {}),
                                           with_kwargs=True),
               m.register_forward_hook(lambda mod, args, kw, out: out + len(kw),
                                       with_kwargs=True)]
    out = [m(t.ones(1, 1)).item()]
    for h in handles:
        h.remove()
    out.append(m(t.ones(1, 1)).item())
    return out, said


@case
def kwargs_hooks(t):
    class A(t.nn.Module):
        def forward(self, x, scale=1):
            return x * scale
    a = A()
    a.register_forward_pre_hook(lambda m, args, kw: (args, {"scale": kw["scale"] + 1}),
                                with_kwargs=True)
    a.register_forward_hook(lambda m, args, kw, out: (out, kw), with_kwargs=True)
    b = A()
    b.register_forward_pre_hook(lambda m, args, kw: args, with_kwargs=True)
    return a(t.ones(1), scale=3), errors(t, lambda: b(t.ones(1)))


@case
def always_called(t):
    said = []

    class A(t.nn.Module):
        def forward(self, x):
            raise ValueError("no")
    a = A()
    a.register_forward_hook(lambda m, args, out: said.append(("a", args, out)), always_call=True)
    a.register_forward_hook(lambda m, args, out: said.append("never"))
    a.register_forward_hook(lambda m, args, out: 1 / 0, always_call=True)
    a.register_forward_hook(lambda m, args, kw, out: said.append(("b", args, kw, out)),
                            with_kwargs=True, always_call=True)
    return errors(t, lambda: a(1)), said


@case
def backward_hooks(t):
    said = []
    m = t.nn.Sequential(t.nn.Linear(2, 2), t.nn.Tanh())
    with t.no_grad():
        for p in m.parameters():
            p.fill_(0.5)
    m[0].register_full_backward_hook(lambda mod, gi, go: said.append(("full", gi, go)))
    m[1].register_full_backward_hook(lambda mod, gi, go: (gi[0] * 2,))
    m[1].register_full_backward_pre_hook(lambda mod, go: (go[0] * 3,))
    m[1].register_full_backward_pre_hook(lambda mod, go: said.append(("pre", go)), prepend=True)
    x = t.ones(1, 2, requires_grad=True)
    m(x).sum().backward()
    return said, x.grad, m[0].weight.grad, errors(
        t, lambda: m[0].register_backward_hook(lambda *a: None))


@case
def backward_hook_shapes(t):
    m = t.nn.ReLU()
    m.register_full_backward_hook(lambda mod, gi, go: (gi[0], gi[0]))
    n = t.nn.ReLU()
    n.register_full_backward_pre_hook(lambda mod, go: (go[0], go[0]))
    x = t.ones(1, requires_grad=True)
    return errors(t, lambda: m(x).backward(), lambda: n(x).backward())


@case
def global_hooks(t):
    mod, said = t.nn.modules.module, []
    handles = [
        mod.register_module_forward_pre_hook(lambda m, a: said.append(("pre", type(m).__name__))),
        mod.register_module_forward_hook(lambda m, a, o: said.append(("post", type(m).__name__))),
        mod.register_module_full_backward_hook(lambda m, gi, go: said.append(("back", go))),
        mod.register_module_full_backward_pre_hook(lambda m, go: said.append(("backpre", go)))]
    m = t.nn.Sequential(t.nn.ReLU())
    m.register_forward_hook(lambda m, a, o: said.append("own"))
    try:
        m(t.ones(1, requires_grad=True)).backward()
    finally:
        for h in handles:
            h.remove()
    m(t.ones(1))
    return said


@case
def registration_hooks(t):
    mod, said = t.nn.modules.module, []
    handles = [
        mod.register_module_parameter_registration_hook(lambda m, n, p: said.append(("p", n))),
        mod.register_module_buffer_registration_hook(lambda m, n, b: said.append(("b", n))),
        mod.register_module_module_registration_hook(lambda m, n, c: said.append(("m", n)))]
    try:
        t.nn.Sequential(t.nn.BatchNorm1d(2))
    finally:
        for h in handles:
            h.remove()
    return said


@case
def hook_tables(t):
    m = t.nn.ReLU()
    h = m.register_forward_hook(lambda *a: None)
    n = len(m._forward_hooks)
    m._forward_hooks.clear()
    m._forward_pre_hooks.clear()
    h.remove()
    return n, len(m._forward_hooks), len(m._backward_hooks), m._is_full_backward_hook


# State -------------------------------------------------------------------------------------------

@case
def states(t):
    n = net(t)
    plain_one = n.state_dict()
    return [list(plain_one), list(plain_one._metadata.items()),
            list(n.state_dict(prefix="x.")), [v.requires_grad for v in
                                              n.state_dict(keep_vars=True).values()],
            list(n.state_dict(destination=OrderedDict(a=1)))]


@case
def state_hooks(t):
    said = []
    n = t.nn.Sequential(t.nn.Linear(1, 1))
    n.register_state_dict_pre_hook(lambda m, p, k: said.append(("pre", p, k)))
    n[0].register_state_dict_post_hook(lambda m, s, p, meta: said.append(("post", list(s), p,
                                                                         dict(meta))))
    n[0]._register_state_dict_hook(lambda m, s, p, meta: s.pop(p + "bias") and None)
    n._register_load_state_dict_pre_hook(lambda *a: said.append(("load", list(a[0]), a[1:])))
    n[0].register_load_state_dict_pre_hook(
        lambda m, s, p, *a: said.append(("loadm", type(m).__name__, list(s), p)))
    n.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
    s = n.state_dict()
    result = n.load_state_dict(s)
    bad = t.nn.Linear(1, 1)
    bad.register_state_dict_post_hook(lambda *a: 3)
    worse = t.nn.Linear(1, 1)
    worse.register_load_state_dict_post_hook(lambda *a: 3)
    return said, list(s), repr(result), errors(t, bad.state_dict, lambda: worse.load_state_dict(
        {"weight": t.ones(1, 1), "bias": t.ones(1)}))


@case
def register_state_dict_hook_of_a_hook_that_returns(t):
    n = t.nn.Linear(1, 1)
    n._register_state_dict_hook(lambda m, s, p, meta: {"all": 1})
    return n.state_dict()


@case
def load_errors(t):
    n = net(t)
    s = n.state_dict()
    del s["first.conv.weight"], s["kept"]
    s["extra"], s["first.norm.other"], s["second.7.x"] = t.ones(1), t.ones(1), t.ones(1)
    s["scale"] = t.ones(3)
    s["first.conv.bias"] = "text"
    s["second.0.conv.bias"] = [1, 2]
    loose = net(t).state_dict()
    loose.pop("scale")
    loose["more"] = t.ones(1)
    return errors(t, lambda: n.load_state_dict(s), lambda: n.load_state_dict(s, strict=False),
                  lambda: repr(n.load_state_dict(loose, strict=False)),
                  lambda: n.load_state_dict(3), lambda: n.load_state_dict([("a", 1)]),
                  lambda: repr(n.load_state_dict(net(t).state_dict())))


@case
def load_casts(t):
    n = t.nn.Linear(2, 1)
    s = {"weight": t.ones(1, 2, dtype=t.float64), "bias": t.ones(1, dtype=t.int64)}
    n.load_state_dict(s)
    out = [n.weight, n.bias]
    m = t.nn.Linear(2, 1)
    m.load_state_dict({k: v.double() for k, v in s.items()}, assign=True)
    return [*out, m.weight, m.bias]


@case
def loads_numbers_of_old(t):
    m = t.nn.Module()
    m.s = t.nn.Parameter(t.zeros(()))
    m.load_state_dict({"s": t.ones(1)})
    return m.s


@case
def extra_state(t):
    class A(t.nn.Module):
        def __init__(self):
            super().__init__()
            self.x = 1

        def get_extra_state(self):
            return {"x": self.x}

        def set_extra_state(self, state):
            self.x = state["x"]
    a, b = t.nn.Sequential(A()), t.nn.Sequential(A())
    a[0].x = 5
    s = a.state_dict()
    b.load_state_dict(s)
    return dict(s), b[0].x, errors(t, lambda: a.load_state_dict({}),
                                   lambda: t.nn.Sequential(t.nn.ReLU()).load_state_dict(s),
                                   lambda: t.nn.ReLU().get_extra_state(),
                                   lambda: t.nn.ReLU().set_extra_state(1))


@case
def versions(t):
    seen = []

    class A(t.nn.Module):
        _version = 2

        def __init__(self):
            super().__init__()
            self.w = t.nn.Parameter(t.zeros(1))

        def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys,
                                  unexpected_keys, error_msgs):
            seen.append(local_metadata.get("version"))
            if prefix + "old" in state_dict:
                state_dict[prefix + "w"] = state_dict.pop(prefix + "old")
            super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys,
                                          unexpected_keys, error_msgs)
    a = t.nn.Sequential(A())
    given = {"0.old": t.ones(1)}
    a.load_state_dict(given)
    a.load_state_dict(a.state_dict())
    return seen, a[0].w, list(given), a.state_dict()._metadata


@case
def save_overridden(t):
    class A(t.nn.Linear):
        def _save_to_state_dict(self, destination, prefix, keep_vars):
            destination[prefix + "mine"] = 1

        def state_dict(self, *args, **kw):
            return super().state_dict(*args, **kw)
    return dict(t.nn.Sequential(A(1, 1)).state_dict())


@pytest.mark.parametrize("name", sorted(CASES))
def test_same(name):
    check(CASES[name], name not in TEXTS_DIFFER)
