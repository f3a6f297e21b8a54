"""Autoencoders: conditional and vector-quantised variational, with tied weights, contractive."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributions, nn
from torch.nn import functional as F

from .training import Training, images, labels


class VAEOutput(NamedTuple):
    reconstruction: Tensor
    mu: Tensor
    logvar: Tensor


class CVAE(nn.Module):
    def __init__(self, size: int = 16, latent: int = 3, classes: int = 5) -> None:
        super(CVAE, self).__init__()
        self.classes = classes
        self.fc1 = nn.Linear(size + classes, 12)
        self.fc21 = nn.Linear(12, latent)
        self.fc22 = nn.Linear(12, latent)
        self.fc3 = nn.Linear(latent + classes, 12)
        self.fc4 = nn.Linear(12, size)

    def encode(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        h1 = F.elu(self.fc1(torch.cat([x, c], 1)))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        if self.training:
            std = logvar.mul(0.5).exp_()
            eps = std.data.new(std.size()).normal_()
            return eps.mul(std).add_(mu)
        return mu

    def decode(self, z: Tensor, c: Tensor) -> Tensor:
        return torch.sigmoid(self.fc4(F.elu(self.fc3(torch.cat([z, c], 1)))))

    def forward(self, x: Tensor, y: Tensor) -> VAEOutput:
        c = F.one_hot(y, self.classes).type_as(x)
        mu, logvar = self.encode(x.view(x.size(0), -1), c)
        return VAEOutput(self.decode(self.reparameterize(mu, logvar), c), mu, logvar)


def conditional_vae(device: str) -> Training:
    net, x = CVAE().to(device), torch.rand(5, 1, 4, 4).to(device)

    def criterion(out: VAEOutput) -> Tensor:
        BCE = F.binary_cross_entropy(out.reconstruction, x.view(-1, 16), reduction="sum")
        KLD = -0.5 * torch.sum(1 + out.logvar - out.mu.pow(2) - out.logvar.exp())
        return BCE + KLD

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2, amsgrad=True)
    return Training(net, [x, labels(device, 5)], criterion, optimizer)


class ConvVAE(nn.Module):
    """With torch.distributions; the prior is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.LeakyReLU(),
                                     nn.Flatten(), nn.Linear(4 * 8 * 8, 6))
        self.decoder = nn.Sequential(nn.Linear(3, 4 * 8 * 8), nn.Unflatten(1, (4, 8, 8)),
                                     nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1),
                                     nn.GELU(), nn.Conv2d(4, 3, 3, padding=1))
        self.prior_loc = nn.Parameter(torch.zeros(3))
        self.prior_scale = nn.Parameter(torch.ones(3).mul_(0.5))
        self.log_sigma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc, raw = self.encoder(x).chunk(2, dim=-1)
        q = distributions.Independent(distributions.Normal(loc, F.softplus(raw) + 1e-4), 1)
        p = distributions.Independent(distributions.Normal(
            self.prior_loc.expand_as(loc), F.softplus(self.prior_scale).expand_as(loc)), 1)
        z = q.rsample() if self.training else q.mean
        kl = distributions.kl_divergence(q, p)
        px = distributions.Normal(self.decoder(z), self.log_sigma.exp())
        return px.log_prob(x).sum(dim=(1, 2, 3)), kl


def conv_vae(device: str) -> Training:
    net = ConvVAE().to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    return Training(net, [images(device)], lambda out: -(out[0] - out[1]).mean() / 768, optimizer)


class Codebook(nn.Module):
    """Codes are averages of what was assigned to them; gradients go straight through."""

    def __init__(self, codes: int, dim: int, decay: float) -> None:
        super().__init__()
        self.codes = nn.Embedding(codes, dim)
        self.codes.weight.data.normal_()
        self.codes.weight.requires_grad = False
        self.register_buffer("count", torch.zeros(codes))
        self.total = nn.Parameter(torch.Tensor(codes, dim))
        self.total.data.normal_()
        self.decay = decay

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = x.permute(0, 2, 3, 1).flatten(0, 2)
        code = self.codes.weight
        squared = flat.pow(2).sum(1, keepdim=True) + (code ** 2).sum(dim=1)
        nearest = torch.argmin(torch.addmm(squared, flat, code.t(), alpha=-2), dim=1)
        chosen = torch.zeros(nearest.shape[0], len(code), device=x.device)
        chosen.scatter_(1, nearest.unsqueeze(1), 1)
        found = self.codes(nearest).view(x.size(0), *x.shape[2:], -1).permute(0, 3, 1, 2)
        if self.training:
            self.count = torch.lerp(chosen.sum(0), self.count, self.decay)
            total = torch.lerp(chosen.t() @ flat, self.total, self.decay).detach()
            self.total = nn.Parameter(total, requires_grad=False)
            self.codes.weight = nn.Parameter(total / (self.count + 1e-2).unsqueeze(1),
                                             requires_grad=False)
        share = chosen.mean(0)
        perplexity = share.mul(torch.log(share + 1e-10)).sum().neg().exp()
        return F.mse_loss(found.detach(), x), x + (found - x).detach(), perplexity


class VQVAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, 1, 1))
        self.vq = Codebook(7, 2, 0.9)
        self.decoder = nn.Sequential(nn.Conv2d(2, 4, 3, 1, 1), nn.ReLU(),
                                     nn.ConvTranspose2d(4, 3, 4, 2, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loss, quantized, perplexity = self.vq(self.encoder(x))
        return loss, self.decoder(quantized), perplexity


def vq_vae(device: str) -> Training:
    net, x = VQVAE().to(device), images(device, 2, 8)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2, amsgrad=False)
    return Training(net, [x], lambda out: F.mse_loss(out[1], x) / 0.5 + 0.25 * out[0],
                    optimizer)


class Tied(nn.Module):
    """The decoder's matrix is the encoder's, transposed; codes are sparse on average."""

    def __init__(self, sizes: tuple[int, ...] = (16, 8, 4)) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.empty(n, m))
                                         for m, n in zip(sizes, sizes[1:])])
        self.biases = nn.ParameterDict({"in": nn.Parameter(torch.zeros(sizes[-1])),
                                        "out": nn.Parameter(torch.zeros(sizes[0]))})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for w in self.weights:
            nn.init.kaiming_uniform_(w, a=5 ** 0.5)
        fan_in, _ = nn.init._calculate_fan_in_and_fan_out(self.weights[-1])
        bound = fan_in ** -0.5
        nn.init.uniform_(self.biases["in"], -bound, bound)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.sigmoid(F.linear(torch.selu(F.linear(x, self.weights[0])), self.weights[1],
                                   self.biases["in"]))
        y = F.linear(h, self.weights[1].t())
        return F.linear(F.selu(y), self.weights[0].t(), self.biases["out"]), h

    def jacobian_penalty(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(True)
        _, h = self(x)
        total = x.new_zeros(())
        for i in range(h.size(1)):
            grad, = torch.autograd.grad(h[:, i].sum(), x, create_graph=True)
            total = total + grad.square().sum(1).mean()
        return total


def tied_autoencoder(device: str) -> Training:
    net, x = Tied().to(device), torch.randn(6, 16).to(device)

    def criterion(out: tuple[Tensor, Tensor]) -> Tensor:
        rho, rho_hat = torch.full_like(out[1][0], 0.05), out[1].mean(0)
        kl = (rho * torch.log(rho / rho_hat)
              + (1 - rho) * torch.log((1 - rho) / (1 - rho_hat))).sum()
        return F.smooth_l1_loss(out[0], x) + 0.1 * kl + 0.01 * net.jacobian_penalty(x)

    return Training(net, [x], criterion, torch.optim.Adadelta(net.parameters(), lr=1.0))
