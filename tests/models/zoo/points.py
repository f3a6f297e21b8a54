"""Points, boxes, rays: clouds that are turned, boxes by levels, a field of light, sines."""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .training import Training, images, labels


def per_point(*widths: int) -> nn.Sequential:
    """The same layers for each point of a cloud (batch, features, points)."""
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:]):
        layers += [nn.Conv1d(before, after, 1, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class Turn(nn.Module):
    """Looks at the whole cloud and gives the matrix that its features are multiplied with."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.see = per_point(features, 8, 12)
        self.choose = nn.Linear(12, features * features)
        self.register_buffer("still", torch.eye(features), persistent=False)

    def forward(self, cloud: Tensor) -> Tensor:
        change = self.choose(self.see(cloud).amax(-1))
        return change.unflatten(1, self.still.shape) + self.still


class Cloud(nn.Module):
    """A class for a set of points; their order makes no difference."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.turns = nn.ModuleList([Turn(3), Turn(6)])
        self.layers = nn.ModuleList([per_point(3, 6), per_point(6, 12)])
        self.judge = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3),
                                   nn.Linear(8, classes), nn.LogSoftmax(dim=-1))

    def forward(self, cloud: Tensor) -> tuple[Tensor, Tensor]:
        for turn, layer in zip(self.turns, self.layers):
            matrix = turn(cloud)
            cloud = layer(torch.einsum("bij,bip->bjp", matrix, cloud))
        return self.judge(cloud.max(dim=-1).values), matrix


def spread_out(cloud: Tensor, n: int) -> Tensor:
    """n points of each cloud (batch, points, 3): the first, and then always the loneliest."""
    chosen = [cloud[:, :1]]
    alone = torch.full(cloud.shape[:2], math.inf, device=cloud.device)
    while len(chosen) < n:
        alone = torch.minimum(alone, torch.cdist(cloud, chosen[-1]).squeeze(-1))
        at = alone.argmax(-1)[:, None, None]
        chosen.append(cloud.take_along_dim(at, 1))
    return torch.cat(chosen, 1)


def point_net(device: str) -> Training:
    net, cloud = Cloud(4).to(device), torch.randn(5, 16, 3).to(device)
    y = labels(device, 5, top=4)

    def criterion(out: tuple[Tensor, Tensor]) -> Tensor:
        scores, matrix = out
        product = torch.matmul(matrix.mT, matrix)
        skew = torch.linalg.matrix_norm(product - torch.eye(6, device=device))
        return F.nll_loss(scores, y) + 1e-3 * skew.mean()

    return Training(net, [spread_out(cloud, 8).mT], criterion,
                    torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4))


class Found(NamedTuple):
    scores: Tensor  # logits (images, boxes, classes)
    moves: Tensor  # (images, boxes, 4): how a box is moved and stretched
    boxes: Tensor  # (boxes, 4): centre x, y, width, height


class Finder(nn.Module):
    """Two square boxes at each place of each level: is something there, and where exactly?

    Coarse levels see much, fine ones see sharply: what the coarser one found is added to the finer.
    """

    sides = (6.0, 10.0)

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.coarser = nn.ModuleList([nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)])
        self.alike = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(8, 4, 1)])
        self.smooth = nn.ModuleList([nn.Conv2d(4, 4, 3, padding="same") for _ in range(2)])
        self.tell = nn.Conv2d(4, len(self.sides) * (classes + 4), 3, padding="same")
        nn.init.normal_(self.tell.weight, std=0.01)
        nn.init.zeros_(self.tell.bias)
        with torch.no_grad():  # nearly everywhere is nothing, and that need not be learned first
            self.tell.bias.view(len(self.sides), -1)[:, :classes] = math.log(0.01 / 0.99)

    def levels(self, image: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.coarser:
            image = F.relu(layer(image))
            maps.append(image)
        above = None
        for i in reversed(range(len(maps))):
            maps[i] = self.alike[i](maps[i])
            if above is not None:
                maps[i] = maps[i] + F.interpolate(above, maps[i].shape[2:], mode="nearest")
            above = maps[i]
        return [layer(m) for layer, m in zip(self.smooth, maps)]

    def boxes(self, rows: int, columns: int, pixels: float, device: torch.device) -> Tensor:
        y = (torch.arange(rows, device=device) + 0.5) * pixels
        x = (torch.arange(columns, device=device) + 0.5) * pixels
        side = torch.tensor(self.sides, device=device)
        y, x, side = torch.meshgrid(y, x, side, indexing="ij")
        return torch.stack((x, y, side, side), dim=-1).flatten(0, 2)

    def forward(self, image: Tensor) -> Found:
        told, boxes = [], []
        for m in self.levels(image):
            by_box = self.tell(m).permute(0, 2, 3, 1).unflatten(-1, (len(self.sides), -1))
            told.append(by_box.flatten(1, 3))
            boxes.append(self.boxes(*m.shape[2:], image.shape[-1] / m.shape[-1], m.device))
        scores, moves = torch.cat(told, 1).split([self.classes, 4], -1)
        return Found(scores, moves, torch.cat(boxes))


def common_share(a: Tensor, b: Tensor) -> Tensor:
    """The area that each box of a has in common with each of b, of the area that both cover."""
    starts = torch.maximum((a[:, :2] - a[:, 2:] / 2).unsqueeze(1), b[:, :2] - b[:, 2:] / 2)
    ends = torch.minimum((a[:, :2] + a[:, 2:] / 2).unsqueeze(1), b[:, :2] + b[:, 2:] / 2)
    common = F.relu(ends - starts).prod(-1)
    return common / (torch.outer(a[:, 2:].prod(-1), torch.ones_like(b[:, 0]))
                     + b[:, 2:].prod(-1) - common)


def hard_ones_first(logits: Tensor, there: Tensor) -> Tensor:
    """Cross-entropy, in which a box counts less the surer the network is and right."""
    sure = F.logsigmoid(torch.where(there, logits, -logits))
    return (torch.where(there, -0.25, -0.75) * sure * (-torch.expm1(sure)).square()).sum()


def detector(device: str) -> Training:
    net = Finder(3).to(device)
    things = torch.tensor([[4.5, 4., 7., 6.], [10.5, 10., 9., 10.]], device=device)
    kinds = torch.tensor([2, 0], device=device)

    def criterion(out: Found) -> Tensor:
        share, thing = common_share(out.boxes, things).max(1)
        near = share > 0.3
        thing, boxes = thing[near], out.boxes[near]
        there = torch.zeros(out.scores.shape, dtype=torch.bool, device=device)
        there[:, near] = F.one_hot(kinds[thing], 3).bool()
        wanted = torch.hstack([(things[thing, :2] - boxes[:, :2]) / boxes[:, 2:],
                               (things[thing, 2:] / boxes[:, 2:]).log()])
        apart = (out.moves[:, near] - wanted).abs().sum()
        return (hard_ones_first(out.scores, there) + apart) / near.sum().clamp(min=1)

    return Training(net, [images(device, 2)], criterion,
                    torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9))


class Waves(nn.Module):
    """Coordinates, and sines and cosines of them, each twice as fast as the one before."""

    def __init__(self, octaves: int) -> None:
        super().__init__()
        self.register_buffer("speed", torch.exp2(torch.arange(octaves)))
        self.outputs = 3 + 3 * octaves * 2

    def forward(self, at: Tensor) -> Tensor:
        angle = torch.outer(at.flatten(), self.speed).view(*at.shape[:-1], -1)
        turned = torch.polar(torch.ones_like(angle), angle)
        return torch.cat([at, torch.view_as_real(turned).flatten(-2)], -1)


class Fog(nn.Module):
    """Coloured fog: how thick and what colour it is at a point, and what one sees through it."""

    def __init__(self, width: int = 16, samples: int = 8) -> None:
        super().__init__()
        self.samples, self.waves = samples, Waves(3)
        n = self.waves.outputs
        self.first = nn.Sequential(nn.Linear(n, width), nn.ReLU(), nn.Linear(width, width),
                                   nn.ReLU())
        self.second = nn.Sequential(nn.Linear(width + n, width), nn.ReLU(), nn.Linear(width, 4))
        self.register_buffer("sky", torch.ones(3))

    def fog_at(self, point: Tensor) -> tuple[Tensor, Tensor]:
        waves = self.waves(point)
        told = self.second(torch.cat([self.first(waves), waves], -1))
        return F.softplus(told[..., 3]), told[..., :3].sigmoid()

    def stops(self, rays: int, device: torch.device) -> Tensor:
        """Distances along each ray: one in every of equal pieces, anywhere in it in training."""
        borders = torch.linspace(0.5, 3.0, self.samples + 1, device=device)
        inside = torch.full((rays, self.samples), 0.5)
        if self.training:
            inside = torch.rand(rays, self.samples)
        return torch.lerp(borders[:-1], borders[1:], inside.to(device))

    def forward(self, eye: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
        far = self.stops(len(ray), ray.device)
        thick, colour = self.fog_at(torch.addcmul(eye[:, None], ray[:, None], far[..., None]))
        between = torch.diff(far, append=torch.full_like(far[:, :1], 3.0))
        through = torch.exp(-thick * between * ray.norm(dim=1, keepdim=True))
        light = torch.cumprod(F.pad(through, [1, 0], value=1.0), 1)
        here = light[:, :-1] - light[:, 1:]  # the share of the light that comes from this piece
        seen = torch.einsum("rs,rsc->rc", here, colour) + light[:, -1:] * self.sky
        return seen, torch.linalg.vecdot(here, far)


def radiance_field(device: str) -> Training:
    net, wanted = Fog().to(device), torch.rand(6, 3).to(device)
    ray = F.normalize(torch.randn(6, 3)).to(device)
    return Training(net, [torch.zeros_like(ray), ray], lambda out: F.mse_loss(out[0], wanted),
                    torch.optim.Adam(net.parameters(), lr=5e-3))


class Curves(nn.Module):
    """A sum of sines of sines; also its gradient and its Laplacian, by differentiation."""

    def __init__(self, *widths: int, speed: float = 6.0) -> None:
        super().__init__()
        self.speed = speed
        self.inner = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:]))
        self.outer = nn.Linear(widths[-1], 1)
        for i, layer in enumerate(self.inner):  # sines get the same spread of angles in each layer
            n = layer.in_features
            bound = math.sqrt(6 / n) / speed if i else 1 / n
            nn.init.uniform_(layer.weight, -bound, bound)

    def value(self, at: Tensor) -> Tensor:
        for layer in self.inner:
            at = layer(at).mul(self.speed).sin()
        return self.outer(at).squeeze(-1)

    def forward(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            axes = [column.detach().requires_grad_() for column in at.unbind(-1)]
            value = self.value(torch.stack(axes, -1))
            slopes = torch.autograd.grad(value.sum(), axes, create_graph=True)
            bends = [torch.autograd.grad(slope.sum(), axis, create_graph=True)[0]
                     for slope, axis in zip(slopes, axes)]
            found = value, torch.stack(slopes, -1), sum(bends)
        return found if self.training else tuple(t.detach() for t in found)


def poisson_equation(device: str) -> Training:
    """Laplacian = cos(x + y) inside of a square, 0 on its edge."""
    net, line = Curves(2, 12, 12).to(device), torch.linspace(-1, 1, 4)
    at = torch.cartesian_prod(line, line).to(device)
    edge = at.abs().amax(-1) == 1

    def criterion(out: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        value, _, bend = out
        off = (bend - at.sum(-1).cos()).abs().masked_fill(edge, 0.0)
        return off.mean() + 10 * torch.where(edge, value, 0.0).square().mean()

    return Training(net, [at], criterion, torch.optim.Adam(net.parameters(), lr=1e-3))
