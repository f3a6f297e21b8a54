"""A transformer that reads an image as a text of square tiles, whatever the size of the image."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.jit import Final

from .training import Training, images, labels


class Tiles(nn.Module):
    """Cuts an image into squares; each is a vector, and has a learned vector for its place."""

    side: Final[int]

    def __init__(self, side: int, places: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.cut = nn.Unfold(side, stride=side)
        self.describe = nn.Linear(3 * side * side, width)
        self.place = nn.Parameter(torch.empty(width, places, places))
        nn.init.trunc_normal_(self.place, std=0.02)
        nn.init.xavier_uniform_(self.describe.weight)

    def forward(self, image: Tensor) -> Tensor:
        torch._assert(image.ndim == 4, "images come in batches")
        below, right = (-length % self.side for length in image.shape[2:])
        if below or right:
            image = F.pad(image, [0, right, 0, below])
        rows, columns = (length // self.side for length in image.shape[2:])
        place = self.place
        if place.shape[1:] != (rows, columns):
            place = F.interpolate(place.unsqueeze(0), (rows, columns), mode="bicubic",
                                  align_corners=False).squeeze(0)
        return self.describe(self.cut(image).mT) + place.flatten(1).mT


class Glance(nn.Module):
    """Each tile looks at all tiles, with several heads.

    by_hand: products and softmax instead of the function of the library. leveled: questions and
    keys are normalized in each head.
    """

    def __init__(self, width: int, heads: int, by_hand: bool, leveled: bool) -> None:
        super().__init__()
        self.heads, self.by_hand, self.forget = heads, by_hand, 0.1
        self.triple = nn.Linear(width, 3 * width)
        self.levels = nn.ModuleList(nn.LayerNorm(width // heads) for _ in range(2 * leveled))
        self.gather = nn.Linear(width, width)
        bound = (3 / width) ** 0.5
        nn.init.uniform_(self.triple.weight, -bound, bound)
        nn.init.zeros_(self.triple.bias)

    def forward(self, tiles: Tensor) -> Tensor:
        parts = [part.unflatten(-1, (self.heads, -1)).movedim(-2, 1)
                 for part in self.triple(tiles).chunk(3, dim=-1)]
        for i, level in enumerate(self.levels):
            parts[i] = level(parts[i])
        question, key, content = parts
        forget = self.forget if self.training else 0.0
        if self.by_hand:
            fit = torch.einsum("bhqd,bhkd->bhqk", question, key) / key.shape[-1] ** 0.5
            seen = F.dropout(torch.softmax(fit, -1), forget, self.training) @ content
        else:
            seen = F.scaled_dot_product_attention(question, key, content, dropout_p=forget)
        return self.gather(seen.movedim(1, -2).flatten(-2))


class Refined(nn.Module):
    """x + gain * work(normalized x), where gain is small at first and one for each feature."""

    def __init__(self, width: int, work: nn.Module) -> None:
        super().__init__()
        self.level = nn.LayerNorm(width, eps=1e-6)
        self.work = work
        self.gain = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, self.gain, F.dropout(self.work(self.level(x)), 0.1, self.training))


class Viewer(nn.Module):
    """Two extra vectors go with the tiles; the first of them becomes the answer."""

    def __init__(self, width: int = 12, depth: int = 2, by_hand: bool = False) -> None:
        super().__init__()
        self.again = False
        self.tiles = Tiles(4, 4, width)
        self.extra = nn.Parameter(torch.empty(2, width).normal_(std=0.02))
        self.layers = nn.Sequential()
        for i in range(depth):
            think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1),
                                  nn.Linear(2 * width, width))
            self.layers.add_module(f"layer{i}", nn.Sequential(
                Refined(width, Glance(width, 3, by_hand, leveled=i > 0)), Refined(width, think)))
        self.answer = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 5))
        nn.init.trunc_normal_(self.answer[1].weight, std=0.02)
        nn.init.constant_(self.answer[1].bias, -0.5)

    @torch.jit.ignore
    def compute_again(self, again: bool) -> Viewer:
        """Keeps little of what is computed on the way, for the price of doing it twice."""
        self.again = again
        return self

    def forward(self, image: Tensor) -> Tensor:
        tiles = self.tiles(image)
        x = torch.cat((self.extra.expand(len(tiles), -1, -1), tiles), 1)
        if self.again and not torch.jit.is_scripting():
            x = torch.utils.checkpoint.checkpoint_sequential(self.layers, len(self.layers), x,
                                                             use_reentrant=False)
        else:
            x = self.layers(x)
        return self.answer(x.select(1, 0))


def slower_below(net: Viewer, factor: float = 0.75, decay: float = 0.05) -> list[dict[str, Any]]:
    """Groups of parameters: a layer's share of the rate is factor of the share of the one above.

    Only matrices in the layers and the answer decay.
    """
    shares, groups = 1.0, []
    for part in (net.answer, *reversed(list(net.layers)), net.tiles):
        own: tuple[list[Tensor], list[Tensor]] = ([], [])
        for parameter in part.parameters():
            own[parameter.ndim == 2].append(parameter)
        if part is net.tiles:
            own[0].append(net.extra)
        groups += [{"params": own[0], "share": shares, "weight_decay": 0.0},
                   {"params": own[1], "share": shares, "weight_decay": decay}]
        shares *= factor
    return groups


class Shared(Training):
    """One rate for all, of which each group takes its share."""

    def step(self) -> float:
        for group in self.optimizers[0].param_groups:
            group["lr"] = group["share"] * 5e-3
        return super().step()


def vit(device: str, size: int = 16, by_hand: bool = False) -> Training:
    net = Viewer(by_hand=by_hand).to(device).compute_again(by_hand)
    y = labels(device, 4)
    return Shared(net, [images(device, size=size)], lambda out: F.cross_entropy(out, y),
                  torch.optim.AdamW(slower_below(net), lr=5e-3, betas=(0.9, 0.99)), clip=1.0)


def vit_larger_images(device: str) -> Training:
    """Places are resized, the image is padded, layers are computed again backwards."""
    return vit(device, size=22, by_hand=True)
