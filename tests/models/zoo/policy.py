"""Learning from rewards: whole episodes, batches used again, replay, and soft choices."""
from __future__ import annotations

import copy
import itertools
from typing import NamedTuple

import torch
from torch import Tensor, distributions, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from .training import Training


class Leash:
    """Three numbers that are drawn to 0 and pushed up or down; the farther, the less reward."""

    length = 8

    def __init__(self, device: str) -> None:
        start = torch.randn(3, generator=torch.Generator().manual_seed(3))
        self.at = start.to(device)

    def pushed(self, up: Tensor) -> Tensor:
        """Goes on, and gives the reward."""
        self.at = 0.9 * self.at + 0.3 * up.to(self.at.dtype) - 0.15
        return -self.at.abs().mean()


def to_come(rewards: Tensor, gamma: float) -> Tensor:
    """Rewards from each time on, later ones for less: a triangle of powers of gamma."""
    ages = torch.arange(len(rewards), dtype=rewards.dtype, device=rewards.device)
    worth = gamma ** (ages - ages[:, None]).clamp(min=0)
    return torch.mv(worth.triu(), rewards)


class Player(nn.Module):
    """How likely each of two actions should be and, with guesses, what can still be won."""

    def __init__(self, guesses: bool) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.1), nn.ReLU())
        self.tell = nn.ModuleDict({"act": nn.Linear(16, 2)})
        if guesses:
            self.tell["guess"] = nn.Linear(16, 1)

    def forward(self, at: Tensor) -> dict[str, Tensor]:
        seen = self.look(at)
        return {what: layer(seen) for what, layer in self.tell.items()}


class Episodes(Training):
    """An episode is played, and then learned from."""

    def loss(self) -> Tensor:
        world = Leash(self.inputs[0].device)
        chances, guesses, rewards = [], [], []
        for _ in range(world.length):
            told = self.net(world.at)
            choice = distributions.Categorical(logits=told["act"])
            up = choice.sample()
            rewards.append(world.pushed(up))
            chances.append(choice.log_prob(up))
            guesses.append(told.get("guess"))
        won = to_come(torch.stack(rewards), 0.99)
        won = (won - won.mean()) / won.std()
        if guesses[0] is None:
            return -torch.dot(torch.stack(chances), won)
        guess = torch.cat(guesses)
        surprise = won - guess.detach()
        return F.huber_loss(guess, won, reduction="sum") - torch.dot(torch.stack(chances), surprise)


def episodes(device: str, guesses: bool) -> Training:
    net = Player(guesses).to(device)
    return Episodes(net, [torch.randn(4, 3).to(device)],
                    optimizer=torch.optim.Adam(net.parameters(), lr=0.03))


def reinforce(device: str) -> Training:
    return episodes(device, guesses=False)


def actor_critic(device: str) -> Training:
    return episodes(device, guesses=True)


class Steering(nn.Module):
    """Two wheels, each turned by a normal distribution, and a guess of what can still be won."""

    def __init__(self) -> None:
        super().__init__()
        self.turn, self.guess = self.layers(2, 0.01), self.layers(1, 1.0)
        self.log_width = nn.Parameter(torch.zeros(2))

    @staticmethod
    def layers(outputs: int, last: float) -> nn.Sequential:
        found = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, outputs))
        for layer, gain in ((found[0], nn.init.calculate_gain("relu")), (found[2], last)):
            nn.init.orthogonal_(layer.weight, gain=gain)
            nn.init.zeros_(layer.bias)
        return found

    def choice(self, at: Tensor) -> distributions.Distribution:
        return distributions.Independent(
            distributions.Normal(self.turn(at), self.log_width.exp()), 1)

    def forward(self, at: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
        return self.choice(at).log_prob(turned), self.guess(at).squeeze(-1)


class Nearby(Training):
    """A batch is used several times in parts, but chances may change by a fifth only.

    inputs: where, what was done, rewards, and 0 after the last one of an episode, else 1.
    """

    def outputs(self) -> tuple[Tensor, Tensor]:
        return self.net(*self.inputs[:2])

    @torch.no_grad()
    def before(self) -> dict[str, Tensor]:
        """What the net says of the batch before it changes."""
        rewards, goes_on = self.inputs[2:]
        chance, guess = self.outputs()
        later = F.pad(guess[1:], (0, 1)) * goes_on
        surprise = rewards + 0.99 * later - guess
        kept = 0.99 * 0.95 * goes_on
        better = list(surprise)
        for i in range(len(better) - 2, -1, -1):
            better[i] = better[i] + kept[i] * better[i + 1]
        return {"chance": chance, "better": torch.stack(better),
                "won": guess + torch.stack(better)}

    def loss_of(self, rows: Tensor, before: dict[str, Tensor]) -> Tensor:
        old = {what: t[rows] for what, t in before.items()}
        at, turned = (t[rows] for t in self.inputs[:2])
        chance, guess = self.net(at, turned)
        better = F.layer_norm(old["better"], rows.shape)
        change = torch.exp(chance - old["chance"])
        gain = torch.minimum(change * better, change.clip(0.8, 1.2) * better)
        spread = self.net.choice(at).entropy()
        return F.mse_loss(guess, old["won"]) / 4 - (gain + 0.01 * spread).mean()

    def loss(self) -> Tensor:
        before = self.before()
        before["chance"] -= 0.1
        return self.loss_of(torch.arange(8, device=before["chance"].device), before)

    def step(self) -> float:
        before, (optimizer,) = self.before(), self.optimizers
        for rows in torch.randperm(8).to(before["chance"].device).chunk(2):
            loss = self.loss_of(rows, before)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(self.net.parameters(), max_norm=0.5)
            optimizer.step()
        return loss.item()


def ppo(device: str) -> Training:
    net = Steering().to(device)
    goes_on = torch.ones(8).index_fill(0, torch.tensor([3]), 0.0)
    batch = [torch.randn(8, 3), torch.normal(0.0, 1.0, (8, 2)), torch.rand(8), goes_on]
    return Nearby(net, [t.to(device) for t in batch],
                  optimizer=torch.optim.Adam(net.parameters(), lr=3e-3, eps=1e-5))


class Wavering(nn.Linear):
    """In training, weights are off by noise of learned size, the same until shake()."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.width = nn.Parameter(torch.full_like(self.weight, 0.4 / inputs ** 0.5))
        self.register_buffer("noise", torch.zeros_like(self.weight))
        self.shake()

    def shake(self) -> None:
        rows, columns = (torch.randn(n, device=self.noise.device) for n in self.noise.shape)
        product = torch.outer(rows, columns)
        self.noise.copy_(torch.copysign(product.abs().sqrt(), product))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.training:
            weight = torch.addcmul(weight, self.width, self.noise)
        return F.linear(x, weight, self.bias)


class Worth(nn.Module):
    """What each of two actions is worth: what being here is worth, and how they differ in it."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Linear(3, 12)
        self.here, self.action = nn.Linear(12, 1), Wavering(12, 2)

    def forward(self, at: Tensor) -> Tensor:
        seen = self.look(at).relu()
        differ = self.action(seen)
        return differ + (self.here(seen) - differ.mean(dim=1, keepdim=True))


class Remembered(NamedTuple):
    at: Tensor
    up: Tensor
    reward: Tensor
    then: Tensor
    last: Tensor


def three_walks(device: str) -> Remembered:
    """Moves by chance, as a batch."""
    moves = []
    for _ in range(3):
        world = Leash(device)
        for left in reversed(range(world.length)):
            at, up = world.at, torch.randint(2, ()).to(device)
            reward = world.pushed(up)
            moves.append(Remembered(at, up, reward, world.at,
                                    torch.tensor(left == 0, device=device)))
    return Remembered(*map(torch.stack, zip(*moves)))


class Replay(Training):
    """Learns from moves of the past, beside a slower net that says what comes after them."""

    def __init__(self, device: str) -> None:
        fast = Worth()
        pair = nn.ModuleList([fast, copy.deepcopy(fast)]).to(device)
        super().__init__(pair, [torch.randn(5, 3).to(device)], optimizer=torch.optim.AdamW(
            fast.parameters(), lr=1e-2, amsgrad=True))
        self.past = three_walks(device)

    def outputs(self) -> list[Tensor]:
        return [net(*self.inputs) for net in self.net]

    def loss(self) -> Tensor:
        fast, slow = self.net
        rows = torch.randperm(24)[:12].to(self.past.at.device)
        some = Remembered(*(t.index_select(0, rows) for t in self.past))
        with torch.no_grad():
            later = slow(some.then).amax(1).masked_fill_(some.last, 0)
            worth = torch.add(some.reward, later, alpha=0.99)
        said = torch.gather(fast(some.at), 1, some.up.view(-1, 1))
        return F.smooth_l1_loss(said.ravel(), worth)

    def step(self) -> float:
        fast, slow = self.net
        (optimizer,) = self.optimizers
        loss = self.loss()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_value_(fast.parameters(), 100.0)
        optimizer.step()
        followed = fast.state_dict()
        slow.load_state_dict({k: t.lerp(followed[k], 0.1) for k, t in slow.state_dict().items()})
        fast.action.shake()
        return loss.item()


def dqn(device: str) -> Training:
    return Replay(device)


class Judges(nn.Module):
    """Two small nets in the same products, each with its own opinion of (state, action)."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ParameterList()
        for before, after in itertools.pairwise((5, 8, 1)):
            bound = before ** -0.5
            for shape in ((2, before, after), (2, 1, after)):
                self.steps.append(torch.empty(shape).uniform_(-bound, bound))

    def forward(self, at: Tensor, move: Tensor) -> Tensor:
        x = torch.hstack((at, move)).expand(2, -1, -1)
        inner, inner_bias, outer, outer_bias = self.steps
        hidden = torch.baddbmm(inner_bias, x, inner).relu_()
        return torch.baddbmm(outer_bias, hidden, outer)[..., 0]


class Soft(nn.Module):
    """Moves from -1 to 1 by chance, two judges and their slow copies, and the price of certainty.

    It gives moves, the logarithms of their chances and the lower opinion of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mover = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
        self.judges = Judges()
        self.slow = copy.deepcopy(self.judges).requires_grad_(False)
        self.log_price = nn.Parameter(torch.tensor([0.0]))

    def moved(self, at: Tensor) -> tuple[Tensor, Tensor]:
        middle, log_width = self.mover(at).tensor_split(2, dim=1)
        normal = distributions.Normal(middle, log_width.clamp(-5, 2).exp())
        squashed = distributions.TransformedDistribution(
            normal, distributions.TanhTransform(cache_size=1))
        move = squashed.rsample()
        return move, squashed.log_prob(move).sum(1)

    def forward(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        move, chance = self.moved(at)
        return move, chance, self.judges(at, move).amin(0)


class SoftLearning(Training):
    def loss(self) -> Tensor:
        net, (at,) = self.net, self.inputs
        then, price = 0.9 * at, net.log_price.exp().detach()
        move, chance, opinion = net(at)
        with torch.no_grad():
            second, second_chance = net.moved(then)
            later = net.slow(then, second).amin(0) - price * second_chance
            worth = (0.1 + 0.99 * later).expand(2, -1)
        parts = {"mover": price * chance - opinion,
                 "judges": 2 * F.mse_loss(net.judges(at, move.detach()), worth),
                 "price": net.log_price * (2 - chance.detach())}
        return torch.stack([part.mean() for part in parts.values()]).sum()

    @torch.no_grad()
    def after_step(self) -> None:
        for slow, fast in zip(self.net.slow.steps, self.net.judges.steps):
            slow.lerp_(fast, 0.005)


def soft_actor_critic(device: str) -> Training:
    net = Soft().to(device)
    learned = [*net.mover.parameters(), *net.judges.parameters()]
    optimizer = torch.optim.Adam([{"params": learned}, {
        "params": net.log_price, "lr": 1e-2, "betas": (0.5, 0.999)}], lr=3e-3)
    return SoftLearning(net, [torch.randn(6, 3).to(device)], optimizer=optimizer)
