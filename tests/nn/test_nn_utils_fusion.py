"""nn.utils: layers fused with their batch norm, memory formats, and clipping without a wait."""
from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad.nn import utils

pytestmark = pytest.mark.usefixtures("on_each_device")

FUSED = {
    "conv1d": (lambda: (nn.Conv1d(2, 4, 3, bias=False), nn.BatchNorm1d(4)), (2, 2, 6)),
    "conv2d": (lambda: (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)), (2, 2, 5, 5)),
    "plain": (lambda: (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False)), (2, 2, 5, 5)),
    "groups": (lambda: (nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4)), (2, 4, 5, 5)),
    "transposed": (lambda: (nn.ConvTranspose2d(2, 4, 3), nn.BatchNorm2d(4)), (2, 2, 5, 5)),
    "linear": (lambda: (nn.Linear(3, 4), nn.BatchNorm1d(4)), (5, 3)),
}


@pytest.mark.parametrize("name", FUSED)
def test_fused_layers(name):
    make, shape = FUSED[name]
    torch.manual_seed(1)
    layer, norm = (m.eval() for m in make())
    for t in (norm.running_mean, norm.running_var, *norm.parameters()):
        t.data.uniform_(0.5, 2)
    if name == "linear":
        fused = utils.fuse_linear_bn_eval(layer, norm)
    else:
        fused = utils.fuse_conv_bn_eval(layer, norm, transpose=name == "transposed")
    x = torch.randn(shape)
    assert torch.allclose(fused(x), norm(layer(x)), atol=1e-5)
    assert type(fused) is type(layer) and fused is not layer and type(fused.bias) is nn.Parameter
    assert fused.weight.requires_grad and fused.bias.requires_grad is (layer.bias is not None)
    assert fused.weight.is_leaf


def test_fusing_needs_eval_mode_and_statistics():
    conv, norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
    with pytest.raises(AssertionError, match="Fusion only for eval!"):
        utils.fuse_conv_bn_eval(conv, norm.eval())
    with pytest.raises(AssertionError, match="running statistics"):
        utils.fuse_conv_bn_eval(conv.eval(), nn.BatchNorm2d(4, track_running_stats=False).eval())
    with pytest.raises(AssertionError, match=r"linear\.out_features=3 and bn\.num_features=4"):
        utils.fuse_linear_bn_eval(nn.Linear(2, 3), nn.BatchNorm1d(4))
    fused = utils.fuse_conv_bn_eval(nn.Conv2d(2, 4, 3, bias=False).half().eval(), norm.eval())
    assert fused.weight.dtype is fused.bias.dtype is torch.float16


def test_memory_formats():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sequential(nn.ConvTranspose2d(3, 2, 3)),
                        nn.Conv3d(2, 2, 3), nn.Linear(2, 2))
    weight, values = net[0].weight, net[0].weight.detach().clone()
    assert utils.convert_conv2d_weight_memory_format(net, torch.channels_last) is net
    assert net[0].weight is weight and weight.stride() == (18, 1, 6, 2)
    assert torch.equal(weight, values) and net[1][0].weight.stride() == (18, 1, 6, 2)
    assert net[2].weight.is_contiguous()
    utils.convert_conv3d_weight_memory_format(net, torch.channels_last_3d)
    assert net[2].weight.stride() == (54, 1, 18, 6, 2)


def test_total_norms_of_mixed_dtypes_and_of_none():
    ones = torch.ones(2)
    for other, dtype in ((ones.half(), torch.float32), (ones.double(), torch.float64)):
        total = utils.get_total_norm([ones, other])
        assert total.dtype is dtype and total.item() == pytest.approx(2, abs=1e-3)
    for p, want in ((0, 2), (-1, 0.1875), (0.5, 119.426), (float("-inf"), 1)):
        total = utils.get_total_norm([torch.ones(2, 2), torch.full((2, 2), 3.0)], p)
        assert total.item() == pytest.approx(want, abs=1e-3)
    assert utils.clip_grad_norm_([], 1.0).item() == 0
    for foreach in (True, False, None):
        p = nn.Parameter(torch.zeros(2))
        p.grad = torch.tensor([3.0, 4.0])
        assert utils.clip_grad_norm_(p, 1.0, "2", foreach=foreach).item() == pytest.approx(5)
        assert p.grad.norm().item() == pytest.approx(1, abs=1e-5)


def test_clipping_does_not_wait_for_the_device():
    params = [nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(4))]
    for p in params:
        p.grad = torch.ones_like(p)

    def clip():
        utils.clip_grad_norm_(params, 1.0)
        utils.clip_grad_norm_(params, 1.0, 3.5)
        utils.clip_grad_value_(params, 0.5)

    clip()
    if not params[0].is_cuda or not torch.cuda.sim.is_simulated():
        return
    torch.cuda.sim.reset()
    clip()
    stats = torch.cuda.sim.stats()
    assert stats.syncs == stats.h2d == stats.d2h == 0
