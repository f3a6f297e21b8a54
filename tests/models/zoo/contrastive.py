"""Learning from two views of an image: NT-Xent, a queue with a momentum encoder, no negatives."""
from __future__ import annotations

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.optimizer import Optimizer, required

from .training import Lamb, Training, images


class Encoder(nn.Sequential):
    def __init__(self, dim):
        super().__init__()
        self.add_module("conv1", nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False))
        self.add_module("bn1", nn.BatchNorm2d(4))
        self.add_module("relu", nn.ReLU(inplace=True))
        self.add_module("conv2", nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False))
        self.add_module("bn2", nn.BatchNorm2d(8))
        self.add_module("pool", nn.AdaptiveAvgPool2d(1))
        self.add_module("flatten", nn.Flatten())
        self.add_module("fc", nn.Linear(8, dim))


class LARS(Optimizer):
    """SGD with momentum; the rate of each matrix goes with its length over its gradient's."""

    def __init__(self, params, lr=required, momentum=0.9, weight_decay=0., trust=0.02):
        super(LARS, self).__init__(params, dict(lr=lr, momentum=momentum, trust=trust,
                                                weight_decay=weight_decay))

    def __setstate__(self, state):
        super(LARS, self).__setstate__(state)
        for group in self.param_groups:
            group.setdefault('nesterov', False)

    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            for p in g['params']:
                dp = p.grad
                if dp is None:
                    continue
                if p.ndim > 1:
                    dp = dp.add(p, alpha=g['weight_decay'])
                    param_norm, update_norm = torch.norm(p), torch.norm(dp)
                    one = torch.ones_like(param_norm)
                    q = torch.where(param_norm > 0., torch.where(
                        update_norm > 0, (g['trust'] * param_norm / update_norm), one), one)
                    dp = dp.mul(q)
                param_state = self.state[p]
                if 'mu' not in param_state:
                    param_state['mu'] = torch.zeros_like(p)
                mu = param_state['mu']
                mu.mul_(g['momentum']).add_(dp)
                p.add_(mu, alpha=-g['lr'])


class SimCLR(nn.Module):
    def __init__(self, dim=6):
        super().__init__()
        self.backbone = Encoder(dim)
        dim_mlp = self.backbone.fc.in_features
        self.backbone.fc = nn.Sequential(nn.Linear(dim_mlp, dim_mlp), nn.ReLU(), self.backbone.fc)

    def forward(self, x):
        return self.backbone(x)


def nt_xent(features, temperature=0.5):
    """Each of 2n rows shall find its other view, n rows away, among all the others."""
    z = F.normalize(features, dim=1)
    n = z.size(0) // 2
    scores = torch.matmul(z, z.T) / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    others = scores[~itself].view(2 * n, 2 * n - 1)
    rows = torch.arange(2 * n, device=z.device)
    target = (rows + n) % (2 * n)
    target = target - (target > rows).long()         # the row's own column is left out
    return F.cross_entropy(others, target)


def views(x):
    """Two views: mirrored with noise, and with channels mixed up and blurred."""
    noise = torch.randn_like(x) * 0.1
    kernel = torch.ones(3, 1, 3, 3, device=x.device) / 9
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)
    return torch.fliplr(x.flatten(0, 1).transpose(0, 1)).transpose(0, 1).view_as(x) + noise, \
        torch.index_select(blurred, 1, torch.tensor([2, 0, 1], device=x.device))


def simclr(device):
    net, x = SimCLR().to(device), images(device, 4, 8)
    optimizer = LARS(net.parameters(), lr=0.5, weight_decay=1e-6)
    return Training(net, [torch.cat(views(x), dim=0)], nt_xent, optimizer)


class MoCo(nn.Module):
    """The keys of earlier batches wait in a queue; the encoder of keys follows slowly."""

    def __init__(self, base, dim=6, size=12, momentum=0.9, temperature=0.2):
        super(MoCo, self).__init__()
        self.size, self.momentum, self.temperature = size, momentum, temperature
        self.query, self.key = base(dim), base(dim)
        for ours, theirs in zip(self.query.parameters(), self.key.parameters()):
            theirs.data.copy_(ours.data)
            theirs.requires_grad = False
        self.register_buffer("queue", F.normalize(torch.randn(dim, size), dim=0))
        self.register_buffer("at", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def follow(self):
        for ours, theirs in zip(self.query.parameters(), self.key.parameters()):
            theirs.data = torch.lerp(ours.data, theirs.data, self.momentum)

    @torch.no_grad()
    def enqueue(self, keys):
        start = int(self.at)
        self.queue[:, start:start + len(keys)] = keys.T
        self.at[0] = (start + len(keys)) % self.size

    def forward(self, a, b):
        q = F.normalize(self.query(a), dim=1)
        with torch.no_grad():
            if self.training:
                self.follow()
            order = torch.randperm(len(b)).to(b.device)
            k = F.normalize(self.key(b[order]), dim=1)[torch.argsort(order)]
        same = torch.einsum('nc,nc->n', [q, k]).unsqueeze(-1)
        logits = torch.cat([same, torch.einsum('nc,ck->nk', [q, self.queue.clone().detach()])], 1)
        logits /= self.temperature
        if self.training:
            self.enqueue(k)
        return logits, torch.zeros(len(q), dtype=torch.long, device=q.device)


def moco(device):
    net, x = MoCo(Encoder).to(device), images(device, 4, 8)
    optimizer = torch.optim.SGD(net.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)
    return Training(net, views(x), lambda out: F.cross_entropy(*out), optimizer)


class BYOL(nn.Module):
    """The online network predicts what the target, its average, makes of the other view."""

    def __init__(self, dim=6):
        super().__init__()
        self.online = nn.Sequential(Encoder(dim), nn.BatchNorm1d(dim), nn.ReLU(inplace=True),
                                    nn.Linear(dim, dim))
        self.predictor = nn.Sequential(nn.Linear(dim, 8), nn.BatchNorm1d(8), nn.ReLU(True),
                                       nn.Linear(8, dim, bias=False))
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def update_target(self, beta):
        with torch.no_grad():
            torch._foreach_mul_(list(self.target.parameters()), beta)
            torch._foreach_add_(list(self.target.parameters()), list(self.online.parameters()),
                                alpha=1 - beta)

    def forward(self, a, b):
        p = [self.predictor(self.online(x)) for x in (a, b)]
        with torch.no_grad():
            z = [self.target(x) for x in (b, a)]
        return tuple(2 - 2 * F.cosine_similarity(x, y.detach(), dim=-1).mean()
                     for x, y in zip(p, z))


class WithTarget(Training):
    def after_step(self):
        self.net.update_target(0.9)


def byol(device):
    net = BYOL().to(device)
    params = [p for p in net.parameters() if p.requires_grad]
    return WithTarget(net, views(images(device, 4, 8)), sum, Lamb(params, lr=0.01, eps=1e-3))


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = Encoder(5)

    def forward(self, *inputs):
        return tuple(map(self.embedding, inputs))


class ContrastiveLoss(nn.Module):
    """Pairs that differ (label 1) are pushed apart up to the margin, others drawn together."""

    def __init__(self, margin=2.0):
        super(ContrastiveLoss, self).__init__()
        self.margin = margin

    def forward(self, a, b, differ):
        d = F.pairwise_distance(a, b, keepdim=True)
        apart = F.relu(self.margin - d).pow(2)
        return torch.lerp(d.pow(2), apart, differ).mean()


def siamese(device):
    net, x = Siamese().to(device), images(device, 4, 8)
    label = torch.tensor([[0.], [1.], [1.], [0.]], device=device)
    criterion, cosine = ContrastiveLoss(), nn.CosineEmbeddingLoss(margin=0.2)
    return Training(net, views(x), lambda out: criterion(*out, label) + cosine(
        *out, 1 - 2 * label.squeeze(1)), torch.optim.Adam(net.parameters(), lr=5e-3))


def triplet(device):
    """With the hardest negative of the batch, and with a distance of one's own."""
    net, x = Siamese().to(device), images(device, 5, 8)
    y = torch.tensor([0, 0, 1, 1, 2], device=device)
    margin = nn.TripletMarginLoss(margin=1.0, p=2, swap=True)
    own = nn.TripletMarginWithDistanceLoss(
        distance_function=lambda a, b: 1.0 - F.cosine_similarity(a, b), margin=0.5)

    def criterion(out):
        e, = out
        d = torch.cdist(e, e)
        same = y[:, None] == y[None, :]
        hardest_positive = (d * same).max(dim=1).indices
        hardest_negative = d.masked_fill(same, float("inf")).min(dim=1)[1]
        p, n = e[hardest_positive], e.index_select(0, hardest_negative)
        return margin(e, p, n) + own(e, p, n)

    return Training(net, [x], criterion, torch.optim.ASGD(net.parameters(), lr=0.05))
