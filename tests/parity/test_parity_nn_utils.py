"""nn.utils beside PyTorch's: the same script with both libraries, from the same seed."""
from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest
from side_by_side import check, lines  # skips this file where there is no torch

import gpugrad

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Library:
    """One of the two libraries, with the modules that scripts below use."""

    def __init__(self, name: str):
        self.torch = importlib.import_module(name)
        self.nn = importlib.import_module(name + ".nn")
        self.utils = importlib.import_module(name + ".nn.utils")
        self.prune = importlib.import_module(name + ".nn.utils.prune")
        self.parametrize = importlib.import_module(name + ".nn.utils.parametrize")
        self.parametrizations = importlib.import_module(name + ".nn.utils.parametrizations")

    def error(self, fn: Any) -> tuple[str, str]:
        """The type of the error that fn raises, and how its text begins."""
        try:
            fn()
        except Exception as e:
            return type(e).__name__, str(e).split(" at 0x")[0][:60]
        return "none", ""


SIDES = [Library("torch"), Library("gpugrad")]


def plain(v: Any) -> Any:
    """Tensors as arrays, in containers, too."""
    if isinstance(v, torch.Tensor):
        return v.detach().numpy()
    if isinstance(v, gpugrad.Tensor):
        return v.detach().numpy()
    if isinstance(v, dict):
        return {k: plain(w) for k, w in v.items()}
    return type(v)(plain(w) for w in v) if isinstance(v, list | tuple) else v


def same(a: Any, b: Any, tolerance: float) -> None:
    if isinstance(a, np.ndarray):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for k in a:
            same(a[k], b[k], tolerance)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y, tolerance)
    else:
        assert a == b


def both(script: Any, tolerance: float = 2e-5) -> None:
    results = []
    for side in SIDES:
        side.torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results.append(plain(script(side)))
    same(*results, tolerance)


LAYERS = {
    "linear": (lambda nn: nn.Linear(3, 4), (2, 3)),
    "conv": (lambda nn: nn.Conv2d(2, 3, 3), (1, 2, 5, 5)),
    "transposed": (lambda nn: nn.ConvTranspose1d(2, 3, 3), (1, 2, 5)),
    "embedding": (lambda nn: nn.Embedding(5, 3), None),
}


def used(lib: Library, module: Any, shape: Any, times: int = 2) -> list[Any]:
    """The module's outputs, gradients and state after a few calls, and its printed form."""
    t = lib.torch
    x = t.tensor([0, 3, 3]) if shape is None else t.randn(shape).requires_grad_()
    y = sum(module(x) for _ in range(times))
    y.square().sum().backward()
    grads = {n: p.grad for n, p in module.named_parameters()}
    return [y, grads, dict(module.state_dict()), repr(module),
            module.eval()(x), None if shape is None else x.grad]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(name, dim):
    make, shape = LAYERS[name]

    def script(lib):
        old = lib.utils.weight_norm(make(lib.nn), dim=dim)
        new = lib.parametrizations.weight_norm(make(lib.nn), dim=dim)
        out = [used(lib, old, shape), used(lib, new, shape)]
        new.load_state_dict(old.state_dict())
        new.weight = new.weight.detach() * 2
        out.append(dict(new.state_dict()))
        lib.utils.remove_weight_norm(old)
        lib.parametrize.remove_parametrizations(new, "weight")
        return [*out, dict(old.state_dict()), dict(new.state_dict()), repr(new)]
    both(script)


# One node in PyTorch, where dim is the first or the last; norm() has a node of its own; text: it
# names the function that refuses.
@pytest.mark.parametrize("code, known", lines("""
t.norm_except_dim(x)
t.norm_except_dim(x, 1, 1)
t.norm_except_dim(A, 2, 1)
t.norm_except_dim(A, 3, 2)
t.norm_except_dim(F, 2, -3)
t.norm_except_dim(v=x, pow=2, dim=-1)  #! grad_fn
t.norm_except_dim(x, 2, 2)
t.norm_except_dim(s)
t.norm_except_dim(i)  #! text
t._weight_norm(x, col)  #! grad_fn
t._weight_norm(x, w)  #! grad_fn
t._weight_norm(x, v, 1)  #! grad_fn
t._weight_norm(v, v)  #! grad_fn
t._weight_norm(A, A[:, :1, :1])  #! grad_fn
t._weight_norm(A, A[:1, :1], 2)  #! grad_fn
t._weight_norm(A, A[:1, :, :1], 1)
t._weight_norm(A, A[:1, :, :1], dim=-2)
t._weight_norm(A, s, -1)
t._weight_norm(x.double(), col.double())  #! grad_fn
"""))
def test_weight_norm_functions(code, known):
    check(code, known)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("options", [{}, {"n_power_iterations": 3, "dim": 1}, {"eps": 0.1}],
                         ids=str)
def test_spectral_norm(name, options):
    make, shape = LAYERS[name]

    def script(lib):
        old = lib.utils.spectral_norm(make(lib.nn), **options)
        new = lib.parametrizations.spectral_norm(make(lib.nn), **options)
        out = [used(lib, old, shape), used(lib, new, shape)]
        out.append(old.state_dict()._metadata)
        lib.utils.remove_spectral_norm(old)
        lib.parametrize.remove_parametrizations(new, "weight")
        return [*out, dict(old.state_dict()), dict(new.state_dict())]
    both(script, 2e-4)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("how", [None, "matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("trivial", [True, False])
def test_orthogonal(shape, how, trivial):
    def script(lib):
        t = lib.torch
        module = lib.nn.Module()
        module.w = lib.nn.Parameter(t.randn(shape))
        lib.parametrizations.orthogonal(module, "w", how, use_trivialization=trivial)
        w = module.w
        (w * t.randn(shape)).sum().backward()
        original = module.parametrizations.w.original
        out = [w, original.grad, dict(module.state_dict()), repr(module)]
        with t.no_grad():
            original.sub_(0.1 * original.grad)
        out.append(module.w)
        new = module.w.detach().flip(-2)
        out.append(lib.error(lambda: setattr(module, "w", new)))
        return [*out, module.w]
    both(script, 1e-4)


PRUNED = {
    "random": lambda p, m: p.random_unstructured(m, "weight", 5),
    "part": lambda p, m: p.random_unstructured(m, "weight", 0.3),
    "l1": lambda p, m: p.l1_unstructured(m, "weight", 0.3),
    "rows": lambda p, m: p.random_structured(m, "weight", 2, 0),
    "columns": lambda p, m: p.random_structured(m, "weight", 1, -1),
    "norm 1": lambda p, m: p.ln_structured(m, "weight", 0.5, 1, 0),
    "norm 2": lambda p, m: p.ln_structured(m, "weight", 1, 2, -1),
    "norm inf": lambda p, m: p.ln_structured(m, "weight", 2, float("inf"), 0),
    "norm -1": lambda p, m: p.ln_structured(m, "weight", 2, -1, 0),
    "bias": lambda p, m: p.l1_unstructured(m, "bias", 1),
    "two": lambda p, m: p.ln_structured(p.l1_unstructured(m, "weight", 0.4), "weight", 1, 2, 0),
    "three": lambda p, m: p.random_unstructured(p.random_structured(
        p.identity(m, "weight"), "weight", 1, 1), "weight", 3),
}


@pytest.mark.parametrize("name", PRUNED)
@pytest.mark.parametrize("layer", ["linear", "conv"])
def test_prune(name, layer):
    make, shape = LAYERS[layer]

    def script(lib):
        m = PRUNED[name](lib.prune, make(lib.nn))
        out = used(lib, m, shape)
        hooks = list(m._forward_pre_hooks.values())
        out.append([type(h).__name__ for h in hooks])
        out.append(lib.torch.rand(1))
        for tensor in {h._tensor_name for h in hooks}:
            lib.prune.remove(m, tensor)
        return [*out, dict(m.state_dict()), lib.prune.is_pruned(m)]
    both(script)


def test_global_pruning():
    def script(lib):
        a, b = lib.nn.Linear(4, 4), lib.nn.Conv2d(2, 3, 3)
        pairs = [(a, "weight"), (b, "weight"), (b, "bias")]
        for method, amount in ((lib.prune.L1Unstructured, 0.3), (lib.prune.RandomUnstructured, 10)):
            lib.prune.global_unstructured(pairs, pruning_method=method, amount=amount)
        return dict(a.state_dict()), dict(b.state_dict())
    both(script)


FUSED = {
    "conv": (lambda nn: (nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), "fuse_conv_bn_eval", ()),
    "no bias": (lambda nn: (nn.Conv1d(2, 3, 3, bias=False), nn.BatchNorm1d(3)),
                "fuse_conv_bn_eval", ()),
    "transposed": (lambda nn: (nn.ConvTranspose2d(2, 3, 3), nn.BatchNorm2d(3, affine=False)),
                   "fuse_conv_bn_eval", (True,)),
    "linear": (lambda nn: (nn.Linear(2, 3), nn.BatchNorm1d(3)), "fuse_linear_bn_eval", ()),
}


@pytest.mark.parametrize("name", FUSED)
def test_fusion(name):
    make, function, more = FUSED[name]

    def script(lib):
        layer, norm = (m.eval() for m in make(lib.nn))
        with lib.torch.no_grad():
            for t in (norm.running_mean, norm.running_var, *norm.parameters()):
                t.uniform_(0.5, 2)
        fused = getattr(lib.utils, function)(layer, norm, *more)
        return [dict(fused.state_dict()), repr(fused),
                [p.requires_grad for p in fused.parameters()],
                lib.error(lambda: getattr(lib.utils, function)(layer.train(), norm, *more))]
    both(script)


@pytest.mark.parametrize("p", [0, -1, 1, 2, 3.5, float("inf"), float("-inf"), "inf", 0.5])
@pytest.mark.parametrize("foreach", [None, False])
def test_clipping(p, foreach):
    def script(lib):
        t, u = lib.torch, lib.utils
        ps = [lib.nn.Parameter(t.zeros(3, 2)), lib.nn.Parameter(t.zeros(4))]
        out = []
        for _ in range(2):
            for q in ps:
                q.grad = t.randn(q.shape)
            out.append(u.get_total_norm([q.grad for q in ps], p, foreach=foreach))
            out.append(u.clip_grad_norm_(ps, 0.7, p, foreach=foreach))
            out += [q.grad.clone() for q in ps]
        u.clip_grad_value_(iter(ps), 0.05, foreach=foreach)
        out += [q.grad.clone() for q in ps]
        u.clip_grads_with_norm_(ps[0], 0.1, t.tensor(3.0), foreach=foreach)
        ps[0].grad[0, 0] = float("nan")
        out.append(lib.error(lambda: u.clip_grad_norm_(ps, 1.0, error_if_nonfinite=True)))
        return out + [q.grad.clone() for q in ps]
    both(script)


def test_vectors_and_errors():
    def script(lib):
        t, u, e = lib.torch, lib.utils, lib.error
        layer = lib.nn.Linear(2, 3)
        return [u.parameters_to_vector(layer.parameters()),
                e(lambda: u.vector_to_parameters([1.0], layer.parameters())),
                e(lambda: u.vector_to_parameters(t.ones(2), layer.parameters()))[0],
                e(lambda: u.remove_weight_norm(layer)), e(lambda: u.remove_spectral_norm(layer)),
                e(lambda: u.weight_norm(u.weight_norm(layer))),
                e(lambda: u.parametrizations.weight_norm(layer, "foo")),
                e(lambda: lib.prune.remove(layer, "bias")),
                e(lambda: lib.prune.L1Unstructured(-1)),
                e(lambda: lib.prune.L1Unstructured("x")),
                e(lambda: lib.prune.random_structured(layer, "bias", 1, 0)),
                e(lambda: lib.parametrize.remove_parametrizations(layer, "bias"))]
    both(script)


def test_memory_formats():
    def script(lib):
        c = lib.utils.convert_conv2d_weight_memory_format(lib.nn.Conv2d(2, 3, 3),
                                                          lib.torch.channels_last)
        return [c.weight, c.weight.stride()]
    both(script)
