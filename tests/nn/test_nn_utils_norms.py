"""nn.utils: weight_norm and spectral_norm, as hooks and as parametrizations; orthogonal matrices.

The numbers were computed by PyTorch from the same seeds.
"""
from __future__ import annotations

import copy
import io

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.nn import utils
from gpugrad.nn.utils import parametrizations, parametrize

pytestmark = [pytest.mark.usefixtures("on_each_device"),
              pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")]


def fixed(*shape):
    """A tensor of numbers that follow from its shape."""
    n = torch.Size(shape).numel()
    return torch.tensor([(7 * i % 11 - 5) / 10 + 0.03 for i in range(n)]).reshape(shape)


def linear():
    layer = nn.Linear(3, 4)
    with torch.no_grad():
        layer.weight.copy_(fixed(4, 3))
        layer.bias.copy_(fixed(4))
    return layer


X = [[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]


@pytest.mark.parametrize("dim, g", [(0, (4, 1)), (1, (1, 3)), (None, ()), (-1, ())])
def test_weight_norm(dim, g):
    layer, plain, x = utils.weight_norm(linear(), dim=dim), linear(), torch.tensor(X)
    assert list(layer.state_dict()) == ["bias", "weight_g", "weight_v"]
    assert layer.weight_g.shape == g and repr(layer) == repr(plain)
    assert torch.allclose(layer(x), plain(x), atol=1e-6)
    with torch.no_grad():
        layer.weight_g.mul_(2)
    layer.train()
    y = layer(x)
    assert torch.allclose(y, nn.functional.linear(x, 2 * plain.weight, plain.bias), atol=1e-6)
    y.square().sum().backward()
    assert layer.weight_g.grad.shape == g and layer.weight_v.grad.shape == (4, 3)
    # the length of v has no influence, so its gradient is orthogonal to it
    assert abs((layer.weight_v.grad * layer.weight_v).sum().item()) < 1e-4
    utils.remove_weight_norm(layer)
    assert [n for n, _ in layer.named_parameters()] == ["bias", "weight"]
    assert torch.allclose(layer.weight, 2 * plain.weight) and not layer._forward_pre_hooks


def test_weight_norm_errors():
    layer = utils.weight_norm(linear())
    with pytest.raises(RuntimeError, match="two weight_norm hooks on the same parameter weight"):
        utils.weight_norm(layer)
    with pytest.raises(ValueError, match=r"weight_norm of 'bias' not found in Linear"):
        utils.remove_weight_norm(layer, "bias")
    with pytest.raises(AttributeError, match="no attribute 'foo'"):
        utils.weight_norm(linear(), "foo")
    with pytest.warns(FutureWarning, match=r"parametrizations\.weight_norm"):
        utils.weight_norm(linear(), "bias")
    with pytest.raises(IndexError, match=r"range of \[-2, 1\], but got 2"):
        torch.norm_except_dim(fixed(2, 3), 2, 2)


def sigma(weight):
    return torch.linalg.matrix_norm(weight.flatten(1), 2).item()


LAYERS = {"linear": (lambda: nn.Linear(3, 4), (2, 3)), "conv": (lambda: nn.Conv2d(2, 3, 3),
          (1, 2, 5, 5)), "transposed": (lambda: nn.ConvTranspose2d(2, 3, 3), (1, 2, 5, 5))}


@pytest.mark.parametrize("name", LAYERS)
def test_spectral_norm(name):
    make, shape = LAYERS[name]
    layer = utils.spectral_norm(make(), n_power_iterations=20)
    assert list(layer.state_dict()) == ["bias", "weight_orig", "weight_u", "weight_v"]
    assert layer.state_dict()._metadata[""]["spectral_norm"] == {"weight.version": 1}
    x = torch.ones(shape)
    y = layer(x) + layer(x)                 # two calls in one graph
    y.square().sum().backward()
    assert layer.weight_orig.grad is not None
    weight = layer.weight.detach()
    matrix = weight.transpose(0, 1) if name == "transposed" else weight
    assert sigma(matrix) == pytest.approx(1, abs=1e-3)
    layer.eval()
    u = layer.weight_u.clone()
    before = layer(x)
    assert torch.equal(u, layer.weight_u)
    other = utils.spectral_norm(make())
    other.load_state_dict(layer.state_dict())
    assert torch.allclose(other.eval()(x), before, atol=1e-6)
    utils.remove_spectral_norm(layer)
    assert list(layer.state_dict()) == ["bias", "weight"]
    assert torch.allclose(layer(x), before, atol=1e-6)
    assert not layer._forward_pre_hooks and not layer._state_dict_hooks


def test_spectral_norm_reads_old_state_dicts():
    layer = utils.spectral_norm(linear(), n_power_iterations=30)
    layer(torch.tensor(X))
    state = layer.state_dict()
    old = {k: v for k, v in state.items() if k != "weight_v"}
    old["weight"] = state["weight_orig"] / 2.5
    other = utils.spectral_norm(nn.Linear(3, 4))
    other.load_state_dict(old)
    other.eval()(torch.tensor(X))
    assert torch.allclose(other.weight, old["weight"], atol=1e-4)
    del old["weight"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"weight"'):
        other.load_state_dict(old)


def test_spectral_norm_errors():
    layer = utils.spectral_norm(linear())
    with pytest.raises(RuntimeError, match="two spectral_norm hooks"):
        utils.spectral_norm(layer)
    with pytest.raises(ValueError, match="Expected n_power_iterations to be positive, but got "
                                         "n_power_iterations=0"):
        utils.spectral_norm(linear(), n_power_iterations=0)
    with pytest.raises(ValueError, match=r"spectral_norm of 'bias' not found"):
        utils.remove_spectral_norm(layer, "bias")
    with pytest.raises(KeyError):
        utils.spectral_norm(linear(), "foo")
    with pytest.raises(IndexError, match=r"range of \[-2, 1\] but got 2"):
        parametrizations.spectral_norm(linear(), dim=2)
    with pytest.raises(ValueError, match="no parameter or buffer with name 'foo'"):
        parametrizations.spectral_norm(linear(), "foo")


@pytest.mark.cpu_only
def test_random_numbers_are_pytorchs():
    torch.manual_seed(2)
    layer = utils.spectral_norm(nn.Linear(3, 4), n_power_iterations=2)
    layer(torch.ones(2, 3))
    layer(torch.ones(2, 3))
    assert torch.allclose(layer.weight_u, torch.tensor([0.2330, -0.3622, 0.8926, 0.1335]),
                          atol=1e-4)
    torch.manual_seed(2)
    layer = parametrizations.spectral_norm(nn.Linear(3, 4), n_power_iterations=2)
    layer(torch.ones(2, 3))
    layer(torch.ones(2, 3))
    assert torch.allclose(layer.parametrizations.weight[0]._u,
                          torch.tensor([0.3542, -0.3631, 0.6725, -0.5390]), atol=1e-4)
    torch.manual_seed(5)
    layer = parametrizations.orthogonal(nn.Linear(4, 2, bias=False))
    assert torch.allclose(layer.weight.flatten(), torch.tensor(
        [0.459, -0.52, 0.567, 0.445, 0.442, -0.354, -0.809, 0.16]), atol=1e-3)


def test_parametrized_weight_norm():
    layer, x = parametrizations.weight_norm(linear()), torch.tensor(X)
    names = ["bias", "parametrizations.weight.original0", "parametrizations.weight.original1"]
    assert list(layer.state_dict()) == names
    assert "(0): _WeightNorm()" in repr(layer)
    y = layer(x)
    assert torch.allclose(y, linear()(x), atol=1e-6)
    old = utils.weight_norm(linear())
    with torch.no_grad():
        old.weight_g.mul_(3)
    layer.load_state_dict(old.state_dict())
    assert torch.allclose(layer(x), old(x), atol=1e-6)
    layer.weight = torch.ones(4, 3)
    assert torch.allclose(layer.parametrizations.weight.original0, torch.full((4, 1), 3 ** 0.5))
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear and torch.allclose(layer.weight, torch.ones(4, 3))


@pytest.mark.parametrize("name", LAYERS)
def test_parametrized_spectral_norm(name):
    make, shape = LAYERS[name]
    layer = parametrizations.spectral_norm(make(), n_power_iterations=5)
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original",
                                        "parametrizations.weight.0._u",
                                        "parametrizations.weight.0._v"]
    (layer(torch.ones(shape)) + layer(torch.ones(shape))).square().sum().backward()
    assert layer.parametrizations.weight.original.grad is not None
    layer.eval()
    weight = layer.weight.detach()
    assert sigma(weight.transpose(0, 1) if name == "transposed" else weight) == \
        pytest.approx(1, abs=1e-2)
    vector = parametrizations.spectral_norm(linear(), "bias")
    assert vector.bias.norm().item() == pytest.approx(1)


SHAPES = [(3, 3), (4, 2), (2, 4), (2, 4, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("trivial", [True, False])
@pytest.mark.parametrize("how", ["matrix_exp", "cayley", "householder"])
def test_orthogonal(shape, trivial, how):
    torch.manual_seed(0)
    layer = nn.Module()
    layer.w = nn.Parameter(torch.randn(shape, dtype=torch.float64))
    parametrizations.orthogonal(layer, "w", orthogonal_map=how, use_trivialization=trivial)

    def check():
        w = layer.w
        a = w if shape[-2] >= shape[-1] else w.mT
        one = torch.eye(a.shape[-1], dtype=torch.float64).expand(*a.shape[:-2], -1, -1)
        assert torch.allclose(a.mT @ a, one, atol=1e-10)
        return w

    w = check()
    w.sum().backward()
    original = layer.parametrizations.w.original
    assert torch.isfinite(original.grad).all()
    with torch.no_grad():
        original.sub_(0.1 * original.grad)
    check()
    new = check().detach().flip(-2)
    if trivial or how == "householder":
        layer.w = new
        assert torch.allclose(layer.w, new, atol=1e-10)
        with pytest.raises(ValueError, match="Expected a matrix or batch of matrices of shape"):
            layer.w = new[..., :1]
    else:
        with pytest.raises(NotImplementedError, match="use_trivialization=False"):
            layer.w = new


def test_orthogonal_errors():
    for name, how, text in ((
            "foo", None, "no parameter or buffer with name 'foo'"), (
            "bias", None, "Got a tensor of 1 dimensions"), (
            "weight", "foo", 'has to be one of "matrix_exp", "cayley", "householder". Got: foo')):
        with pytest.raises(ValueError, match=text):
            parametrizations.orthogonal(linear(), name, orthogonal_map=how)


def test_copies_and_files():
    layer = parametrizations.orthogonal(nn.Linear(3, 3))
    other = copy.deepcopy(layer)
    assert type(other) is type(layer) and torch.equal(other.weight, layer.weight)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = parametrizations.orthogonal(nn.Linear(3, 3))
    fresh.load_state_dict(torch.load(file))
    assert torch.equal(fresh.weight, layer.weight)
