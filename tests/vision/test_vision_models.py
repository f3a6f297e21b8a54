"""Networks by torchvision's names: sizes, names of parameters, options, trained weights."""
from __future__ import annotations

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import hub, nn
from gpugrad.vision import models

# Of https://docs.pytorch.org/vision/stable/models.html
PARAMETERS = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032,
    "resnet101": 44_549_160, "resnet152": 60_192_808, "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336, "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696, "vgg11": 132_863_336, "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848, "vgg13_bn": 133_053_736, "vgg16": 138_357_544, "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240, "vgg19_bn": 143_678_248}


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_those_of_the_table(name):
    with torch.device("meta"):
        net = models.get_model(name)
        y = net(torch.ones(2, 3, 64, 64))
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]
    assert y.shape == (2, 1000) and getattr(models, name).__name__ == name


def test_all_have_names():
    assert models.list_models() == sorted(PARAMETERS)
    assert set(PARAMETERS) <= {n for n, v in vars(models).items() if n.islower() and callable(v)}
    with pytest.raises(ValueError, match="Unknown model lenet"):
        models.get_model("lenet")


def test_state_dicts_have_torchvisions_names():
    keys = list(models.resnet18(num_classes=3).state_dict())
    assert keys[:2] == ["conv1.weight", "bn1.weight"] and keys[-2:] == ["fc.weight", "fc.bias"]
    assert "layer2.0.downsample.1.running_mean" in keys
    assert not any("layer1.0.downsample" in key for key in keys)
    with torch.device("meta"):
        keys = list(models.vgg11_bn().state_dict())
    assert keys[0] == "features.0.weight" and "classifier.6.bias" in keys


def test_a_network_learns_and_options_hold():
    torch.manual_seed(0)
    net = models.resnet18(num_classes=4, zero_init_residual=True,
                          norm_layer=lambda c: nn.GroupNorm(8, c))
    assert not net.layer3[1].bn2.weight.any() and isinstance(net.bn1, nn.GroupNorm)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    with torch.device("meta"):
        dilated = models.resnet50(replace_stride_with_dilation=[False, True, True])
        seen = []
        dilated.layer4.register_forward_hook(lambda m, i, o: seen.append(o.shape))
        dilated(torch.ones(1, 3, 64, 64))
    assert seen == [(1, 2048, 8, 8)] and dilated.layer4[2].conv2.dilation == (4, 4)


def test_trained_weights_are_loaded_by_name(monkeypatch):
    source = models.resnet18()
    asked = []

    def load(url, progress=True, check_hash=False):
        asked.append((url, progress, check_hash))
        return source.state_dict()

    monkeypatch.setattr(hub, "load_state_dict_from_url", load)
    weights = models.ResNet18_Weights
    for given in weights.DEFAULT, "DEFAULT", "ResNet18_Weights.IMAGENET1K_V1":
        net = models.resnet18(weights=given, progress=False)
        assert net.fc.weight.equal(source.fc.weight)
    assert models.resnet18(pretrained=True).conv1.weight.equal(source.conv1.weight)
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert asked == [(url, False, True)] * 3 + [(url, True, True)]
    assert models.get_weight("ResNet18_Weights.DEFAULT") is weights.IMAGENET1K_V1
    with pytest.raises(ValueError, match="'num_classes' expected value 1000 but got 10"):
        models.resnet18(weights="DEFAULT", num_classes=10)
    with pytest.raises(TypeError, match="expected ResNet18_Weights"):
        models.resnet18(weights=models.ResNet50_Weights.DEFAULT)
    with pytest.raises(ValueError, match="Unable to find weights"):
        models.get_weight("ResNet18_Weights.BEST")


def test_the_transforms_of_weights():
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 300, 260), np.uint8))
    x = models.ResNet50_Weights.DEFAULT.transforms()(picture)
    assert x.shape == (3, 224, 224) and x.dtype is torch.float32 and x.abs().max() < 3
