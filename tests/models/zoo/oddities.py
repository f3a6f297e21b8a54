"""What fits nowhere else: own backward functions, inner loops, capsules, mixtures, two heads."""
from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Function
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector, prune

from .training import Training, images, labels

Heads = namedtuple("Heads", "logits aux")
Heads.__annotations__ = {"logits": torch.Tensor, "aux": "torch.Tensor | None"}


class ReverseLayerF(Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output.neg() * ctx.alpha, None


class BinarizeF(Function):
    """Signs forwards; backwards the gradient passes where the input is small."""

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return input.new_ones(input.size()).masked_fill_(input < 0, -1)

    @staticmethod
    def backward(ctx, grad_output):
        input, = ctx.saved_tensors
        grad_input = grad_output.clone()
        grad_input[input.abs().ge(1)] = 0
        return grad_input


class BinaryLinear(nn.Linear):
    def forward(self, input):
        return F.linear(input, BinarizeF.apply(self.weight), self.bias)


class DomainAdversarial(nn.Module):
    """Features serve the classifier, and mislead the discriminator of domains."""

    def __init__(self):
        super(DomainAdversarial, self).__init__()
        self.feature = nn.Sequential()
        self.feature.add_module('f_conv1', nn.Conv2d(3, 4, kernel_size=5))
        self.feature.add_module('f_bn1', nn.BatchNorm2d(4))
        self.feature.add_module('f_pool1', nn.MaxPool2d(2))
        self.feature.add_module('f_relu1', nn.ReLU(True))
        self.feature.add_module('f_drop', nn.Dropout2d(0.2))
        self.class_classifier = nn.Sequential(OrderedDict([
            ('c_fc1', BinaryLinear(144, 8)), ('c_bn1', nn.BatchNorm1d(8)),
            ('c_tanh', nn.Hardtanh()), ('c_fc2', nn.Linear(8, 5)), ('c_soft', nn.LogSoftmax(1))]))
        self.domain_classifier = nn.Sequential(OrderedDict(d_fc1=nn.Linear(144, 2),
                                                           d_soft=nn.LogSoftmax(dim=1)))

    def forward(self, input_data, alpha):
        feature = self.feature(input_data).view(-1, 144)
        return (self.class_classifier(feature),
                self.domain_classifier(ReverseLayerF.apply(feature, alpha)))


def domain_adversarial(device):
    net, y = DomainAdversarial().to(device), labels(device, 6)
    domain = torch.cat([torch.zeros(3), torch.ones(3)]).long().to(device)
    criterion = torch.nn.NLLLoss()
    return Training(net, [images(device, 6), 0.5],
                    lambda out: criterion(out[0], y) + criterion(out[1], domain),
                    torch.optim.SGD(net.parameters(), lr=1e-2))


class MetaLearner(Training):
    """Steps on some examples, inside, so that the loss on others is small."""

    def outputs(self):
        return self.net(self.inputs[0])

    def loss(self):
        x, y, x2, y2 = self.inputs
        params, total = dict(self.net.named_parameters()), 0
        for task in range(2):
            fast = params
            for _ in range(2):
                inner = F.mse_loss(functional_call(self.net, fast, (x[task],)), y[task])
                grads = torch.autograd.grad(inner, list(fast.values()), create_graph=True)
                fast = {k: p - 0.1 * g for (k, p), g in zip(fast.items(), grads)}
            total = total + F.mse_loss(functional_call(self.net, fast, (x2[task],)), y2[task])
        return total / 2 + 1e-4 * parameters_to_vector(self.net.parameters()).square().sum()


def maml(device):
    net = nn.Sequential(OrderedDict(l1=nn.Linear(1, 10), r1=nn.Tanh(), l2=nn.Linear(10, 10),
                                    r2=nn.Softplus(), l3=nn.Linear(10, 1))).to(device)
    x, x2 = (torch.rand(2, 5, 1).mul(4).sub(2).to(device) for _ in range(2))
    phase = torch.tensor([0., 1.], device=device).view(2, 1, 1)
    return MetaLearner(net, [x, torch.sin(x + phase), x2, torch.sin(x2 + phase)],
                       optimizer=torch.optim.Adam(net.parameters(), lr=1e-2))


def squash(x, dim=-1):
    squared_norm = (x ** 2).sum(dim=dim, keepdim=True)
    return squared_norm / (1 + squared_norm) * x / (squared_norm.sqrt() + 1e-8)


class CapsuleNet(nn.Module):
    def __init__(self, caps=5, routings=2):
        super().__init__()
        self.caps, self.routings = caps, routings
        self.primary = nn.Conv2d(3, 8, kernel_size=5, stride=4)
        self.weight = nn.Parameter(0.1 * torch.randn(caps, 18, 6, 4))
        self.decoder = nn.Sequential(nn.Linear(6 * caps, 16), nn.ReLU(inplace=True),
                                     nn.Linear(16, 48), nn.Sigmoid())

    def forward(self, x):
        u = squash(self.primary(x).view(x.size(0), -1, 4))
        votes = (self.weight @ u[:, None, :, :, None]).squeeze(-1)
        agreement = x.new_zeros(votes.shape[:-1])
        for _ in range(self.routings - 1):
            share = agreement.softmax(dim=1).unsqueeze(-1)
            found = squash((share * votes.detach()).sum(-2, keepdim=True))
            agreement += (found * votes.detach()).sum(-1)
        outputs = squash((agreement.softmax(1).unsqueeze(-1) * votes).sum(-2))
        length = outputs.norm(dim=-1)
        y = torch.zeros_like(length).scatter(1, length.max(dim=1)[1].view(-1, 1), 1.)
        return length, self.decoder((outputs * y[:, :, None]).view(x.size(0), -1))


def capsules(device):
    net, x = CapsuleNet().to(device), images(device, 4)
    y = torch.eye(5, device=device).index_select(0, labels(device, 4))

    def criterion(out):
        present, absent = (0.9 - out[0]).clamp(min=0), (out[0] - 0.1).clamp_min(0)
        margins = torch.where(y.bool(), present.square(), 0.5 * absent ** 2)
        return margins.sum(1).mean() + 0.05 * F.mse_loss(
            out[1], F.adaptive_avg_pool2d(x, 4).flatten(1).sigmoid())

    return Training(net, [x], criterion, torch.optim.Adam(net.parameters(), lr=1e-3))


class MixtureDensity(nn.Module):
    def __init__(self, k=3):
        super().__init__()
        self.k = k
        self.net = nn.Sequential(nn.Linear(1, 10), nn.Mish(), nn.Linear(10, 5 * k))

    def distribution(self, raw):
        pi, mu, sigma = raw.split([self.k, 2 * self.k, 2 * self.k], dim=-1)
        shape = (*raw.shape[:-1], self.k, 2)
        parts = Independent(Normal(mu.reshape(shape), F.softplus(sigma).reshape(shape) + 0.1), 1)
        return MixtureSameFamily(Categorical(logits=pi), parts)

    def forward(self, x):
        return self.net(x)


def mixture_density(device):
    net, x = MixtureDensity().to(device), torch.randn(7, 1).to(device)
    y = torch.cat([x.sin(), x.cos()], dim=-1)
    return Training(net, [x], lambda out: -net.distribution(out).log_prob(y).mean(),
                    torch.optim.Adam(net.parameters(), lr=1e-2))


def channel_shuffle(x, groups):
    n, c, h, w = x.size()
    x = x.view(n, groups, c // groups, h, w)
    return torch.transpose(x, 1, 2).contiguous().view(n, c, h, w)


class BasicConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, **kwargs):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """Branches side by side, shuffled channels, and a second classifier while it trains."""

    def __init__(self, aux_logits=True, transform_input=True, init_weights=None):
        super().__init__()
        if init_weights is None:
            warnings.warn("weights are initialised: say init_weights=False if they are loaded",
                          FutureWarning)
            init_weights = True
        self.aux_logits, self.transform_input = aux_logits, transform_input
        self.stem = BasicConv2d(3, 4, kernel_size=3, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.branch1x1 = BasicConv2d(4, 2, kernel_size=1)
        self.branch7x7 = nn.Sequential(BasicConv2d(4, 2, kernel_size=(1, 3), padding=(0, 1)),
                                       BasicConv2d(2, 2, kernel_size=(3, 1), padding=(1, 0)))
        self.branch_pool = BasicConv2d(4, 2, kernel_size=1)
        if aux_logits:
            self.AuxLogits = nn.Linear(6, 5)
        self.norm = nn.LocalResponseNorm(2)
        self.fc = nn.Linear(6, 5)
        if init_weights:
            for m in self.modules():
                if isinstance(m, nn.Conv2d) or isinstance(m, nn.Linear):
                    torch.nn.init.trunc_normal_(m.weight, std=getattr(m, "spread", 0.1), a=-1, b=1)
        prune.l1_unstructured(self.fc, name="weight", amount=0.3)

    def _transform_input(self, x):
        if self.transform_input:
            parts = [torch.unsqueeze(x[:, i], 1) * scale + shift for i, (scale, shift) in
                     enumerate(((0.45, -0.03), (0.44, -0.1), (0.46, -0.2)))]
            x = torch.cat(parts, 1)
        return x

    @torch.jit.unused
    def in_eager_mode(self, x, aux):
        return x if aux is None else Heads(x, aux)

    def forward(self, x):
        x = self.maxpool(self.stem(self._transform_input(x)))
        pooled = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)
        x = torch.cat([self.branch1x1(x), self.branch7x7(x), self.branch_pool(pooled)], 1)
        x = self.norm(channel_shuffle(x, 3))
        aux = self.AuxLogits(x.amax((2, 3))) if self.training and self.aux_logits else None
        x = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))
        if torch.jit.is_scripting() or torch.jit.is_tracing():
            return Heads(x, aux)
        return self.in_eager_mode(x, aux)


def inception(device):
    net, y = Inception().to(device), labels(device, 6)
    compiled = False             # compiling takes longer than these few steps
    model = torch.compile(net) if compiled and hasattr(torch, "compile") else net
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=10, power=2.0)
    return Training(model, [images(device, 6)], lambda out: F.cross_entropy(out.logits, y)
                    + 0.4 * F.cross_entropy(out.aux, y), optimizer, schedule)
