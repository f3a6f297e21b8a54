"""The networks that are trained: an MLP, LeNet, ResNet-18 for CIFAR, a GPT of six layers."""
from __future__ import annotations

from itertools import pairwise
from typing import Any

from cpu_suite.rows import SECOND_CORE, STEPS, Case, Library, row, training


def mlp(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def lenet(torch: Any, kernel: int = 3) -> Any:
    """The tutorials' net for 32x32, with convolutions of 3x3 or 5x5."""
    nn, F = torch.nn, torch.nn.functional
    left = {3: 6, 5: 5}[kernel]

    class Net(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, kernel)
            self.conv2 = nn.Conv2d(6, 16, kernel)
            self.fc1 = nn.Linear(16 * left * left, 120)
            self.fc2 = nn.Linear(120, 84)
            self.fc3 = nn.Linear(84, 10)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            x = torch.flatten(x, 1)
            x = F.relu(self.fc1(x))
            x = F.relu(self.fc2(x))
            return self.fc3(x)

    return Net()


def resnet18(torch: Any, width: int = 64) -> Any:
    """He and others' network with a first convolution of 3x3 and no pooling before the blocks."""
    nn, F = torch.nn, torch.nn.functional

    def conv(c_in: int, c_out: int, size: int, stride: int = 1) -> Any:
        return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=False)

    class Block(nn.Module):  # type: ignore[name-defined]
        def __init__(self, c_in: int, c_out: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = conv(c_in, c_out, 3, stride), nn.BatchNorm2d(c_out)
            self.conv2, self.bn2 = conv(c_out, c_out, 3), nn.BatchNorm2d(c_out)
            self.shortcut = nn.Sequential() if stride == 1 and c_in == c_out else nn.Sequential(
                conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            return F.relu(y + self.shortcut(x))

    widths = [width * k for k in (1, 1, 1, 2, 2, 4, 4, 8, 8)]
    blocks = [Block(c_in, c_out, 1 if c_in == c_out else 2) for c_in, c_out in pairwise(widths)]
    return nn.Sequential(conv(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), *blocks,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10))


def gpt(torch: Any, layers: int = 6, width: int = 384, heads: int = 6, length: int = 128,
        words: int = 5000) -> Any:
    """GPT-2's layout, with its form of GELU."""
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"),
                                         nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            n, t, _ = x.shape
            parts = self.inputs(self.norm1(x)).view(n, t, 3, heads, width // heads)
            q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
            found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.output(found.transpose(1, 2).reshape(n, t, width))
            return x + self.network(self.norm2(x))

    class GPT(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(words, width)
            self.places = nn.Parameter(torch.zeros(length, width))
            self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

        def forward(self, x: Any) -> Any:
            return self.head(self.norm(self.blocks(self.tokens(x) + self.places))).flatten(0, 1)

    return GPT()


# Their training -----------------------------------------------------------------------------------

def lenet_step(lib: Library, batch: int, kernel: int = 3) -> Case:
    net = lenet(lib.torch, kernel)
    return training(lib, net, lib.torch.optim.SGD(net.parameters(), lr=0.01),
                    [lib.normal(batch, 1, 32, 32), lib.integers(10, batch)])


def resnet_step(lib: Library, batch: int) -> Case:
    net = resnet18(lib.torch)
    optimizer = lib.torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    return training(lib, net, optimizer, [lib.normal(batch, 3, 32, 32), lib.integers(10, batch)])


def gpt_step(lib: Library, batch: int) -> Case:
    net = gpt(lib.torch)
    optimizer = lib.torch.optim.AdamW(net.parameters(), lr=3e-4)
    words = lib.integers(5000, batch, 129)
    return training(lib, net, optimizer, [words[:, :-1].contiguous(), words[:, 1:].flatten()],
                    clip=1.0)


for batch, aims in {1: (2.0, 1.5), 16: (1.8, 1.5), 64: (1.5, 1.3), 256: (1.3, 1.2)}.items():
    row("lenet", f"batch {batch}", columns=STEPS, aims={"gpugrad": aims},
        size=(batch, min(batch, 32)))(lenet_step)
for batch in 1, 64:
    row("lenet", f"5x5, batch {batch}", columns=STEPS, size=(batch, min(batch, 32)))(
        lambda lib, batch: lenet_step(lib, batch, 5))
row("resnet", "batch 32", columns=STEPS, size=(32, 2), tolerance=2e-3,
    aims={"gpugrad": 1.0, "numpy": 0.6, SECOND_CORE: 1.0})(resnet_step)
row("gpt", "6 layers, width 384, batch 8 of 128 words", columns=STEPS, size=(8, 1), tolerance=1e-3,
    aims={"gpugrad": 1.0, "numpy": 0.8, SECOND_CORE: 1.0})(gpt_step)
