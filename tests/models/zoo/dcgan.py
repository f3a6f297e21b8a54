"""Generator against discriminator: DCGAN, Wasserstein with gradient penalty, hinge and spectral."""
from __future__ import annotations

import torch
import torch.autograd as autograd
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import parametrizations, spectral_norm
from torch.optim import Adam

from .training import Training, images, labels

nz, ngf, ndf, nc = 6, 4, 4, 3


def weights_init(m):
    name = type(m).__name__
    if 'Conv' in name:
        nn.init.normal_(m.weight.data, std=0.1)
    elif name.startswith('BatchNorm'):
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        m.bias.data.zero_()


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 2), nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False),
            nn.BatchNorm2d(ngf), nn.ReLU(True),
            nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), norm(ndf * 2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf * 2, 1, 4, 1, 0, bias=False))

    def forward(self, input):
        return self.main(input).view(-1)


class Players(nn.Module):
    def __init__(self, generator, discriminator):
        super().__init__()
        self.G, self.D = generator, discriminator

    def forward(self, z):
        fake = self.G(z)
        return fake, self.D(fake)


class Game(Training):
    """The discriminator's step, then the generator's, each with its own optimizer."""

    def __init__(self, net, real, noise, betas=(0.5, 0.999)):
        super().__init__(net, [noise])
        self.real = real
        self.optimizerD = Adam(net.D.parameters(), lr=2e-3, betas=betas)
        self.optimizerG = Adam(net.G.parameters(), lr=2e-3, betas=betas)
        self.optimizers = [self.optimizerD, self.optimizerG]

    def loss_of_d(self, fake):
        real, out = self.net.D(self.real), self.net.D(fake)
        label = torch.full((real.size(0),), 1.0, dtype=torch.float, device=real.device)
        criterion = nn.BCEWithLogitsLoss()
        return criterion(real, label) + criterion(out, torch.zeros_like(label))

    def loss_of_g(self, fake):
        out = self.net.D(fake)
        return F.binary_cross_entropy(torch.sigmoid(out), torch.ones_like(out))

    def loss(self):
        fake = self.net.G(self.inputs[0])
        return self.loss_of_d(fake.detach()) + self.loss_of_g(fake)

    def step(self):
        self.net.train()
        noise = torch.randn_like(self.inputs[0])
        fake = self.net.G(noise)
        self.net.D.zero_grad()
        errD = self.loss_of_d(fake.detach())
        errD.backward()
        self.optimizerD.step()

        for p in self.net.D.parameters():
            p.requires_grad = False
        self.net.G.zero_grad()
        errG = self.loss_of_g(fake)
        errG.backward()
        self.optimizerG.step()
        for p in self.net.D.parameters():
            p.requires_grad = True
        return errD.item() + errG.item()


def dcgan(device):
    net = Players(Generator().to(device), Discriminator().to(device))
    net.apply(weights_init)
    return Game(net, images(device, 4), torch.randn(4, nz, 1, 1, device="cpu").to(device))


class WassersteinGame(Game):
    def gradient_penalty(self, fake):
        real = self.real
        mixture = torch.rand(real.size(0), 1, 1, 1).to(real.device)
        between = torch.lerp(fake, real, mixture).detach().requires_grad_(True)
        scores = self.net.D(between)
        slopes, = autograd.grad(outputs=scores, inputs=between,
                                grad_outputs=torch.ones_like(scores), create_graph=True,
                                retain_graph=True, only_inputs=True)
        return (slopes.flatten(1).norm(2, dim=1) - 1).pow(2).mean()

    def loss_of_d(self, fake):
        wasserstein = self.net.D(fake).mean() - self.net.D(self.real).mean()
        return wasserstein + 10.0 * self.gradient_penalty(fake)

    def loss_of_g(self, fake):
        return -torch.mean(self.net.D(fake))


def instance_norm(channels):
    return nn.InstanceNorm2d(channels, affine=True)


def layer_norm(channels):
    return nn.GroupNorm(1, channels)


def wgan_gp(device):
    net = Players(Generator(), Discriminator(norm=layer_norm)).to(device)
    net.apply(weights_init)
    return WassersteinGame(net, images(device, 4), torch.randn(4, nz, 1, 1).to(device),
                           betas=(0.0, 0.9))


class PathLengthGame(WassersteinGame):
    """The penalty of real images' gradients, and of the generator's Jacobian."""

    def gradient_penalty(self, fake):
        real = self.real.detach().requires_grad_()
        grad_real, = autograd.grad(self.net.D(real).sum(), real, create_graph=True)
        return grad_real.pow(2).reshape(grad_real.shape[0], -1).sum(1).mean()

    def loss_of_g(self, fake):
        noise = torch.randn_like(fake) / 16
        z = torch.randn_like(self.inputs[0]).requires_grad_()
        grad, = autograd.grad((self.net.G(z) * noise).sum(), z, create_graph=True)
        lengths = torch.sqrt(grad.pow(2).sum(dim=(1, 2, 3)))
        penalty = (lengths - lengths.mean().detach()).pow(2).mean()
        return F.softplus(-self.net.D(fake)).mean() + penalty


def stylegan_penalties(device):
    net = Players(Generator(), Discriminator(norm=instance_norm)).to(device)
    net.apply(weights_init)
    return PathLengthGame(net, images(device, 4), torch.randn(4, nz, 1, 1).to(device))


class ConditionalBatchNorm2d(nn.Module):
    def __init__(self, num_features, num_classes):
        super().__init__()
        self.num_features = num_features
        self.bn = nn.BatchNorm2d(num_features, affine=False)
        self.embed = nn.Embedding(num_classes, num_features * 2)
        self.embed.weight.data[:, :num_features].normal_(1, 0.02)
        self.embed.weight.data[:, num_features:].zero_()

    def forward(self, x, y):
        gamma, beta = self.embed(y).chunk(2, 1)
        return gamma.view(-1, self.num_features, 1, 1) * self.bn(x) + beta.view(
            -1, self.num_features, 1, 1)


class SelfAttention(nn.Module):
    def __init__(self, ch, norm):
        super().__init__()
        self.theta, self.phi = norm(nn.Conv2d(ch, ch // 2, 1, bias=False)), norm(
            nn.Conv2d(ch, ch // 2, 1, bias=False))
        self.g = norm(nn.Conv2d(ch, ch, 1, bias=False))
        self.gamma = nn.Parameter(torch.tensor(0.1), requires_grad=True)

    def forward(self, x):
        theta = self.theta(x).flatten(2)
        phi = F.max_pool2d(self.phi(x), [2, 2]).flatten(2)
        g = F.max_pool2d(self.g(x), [2, 2]).flatten(2)
        beta = F.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        return self.gamma * torch.bmm(g, beta.transpose(1, 2)).view(x.shape) + x


class ConditionalGenerator(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.linear = nn.Linear(nz, 4 * 4 * ngf)
        self.bn = ConditionalBatchNorm2d(ngf, classes)
        self.up = nn.Upsample(scale_factor=2)
        self.conv = nn.Conv2d(ngf, nc * 4, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        nn.init.orthogonal_(self.conv.weight)

    def forward(self, z, y):
        h = self.linear(z).view(-1, ngf, 4, 4)
        return torch.tanh(self.shuffle(self.conv(self.up(F.relu(self.bn(h, y))))))


class ProjectionDiscriminator(nn.Module):
    def __init__(self, classes, norm):
        super().__init__()
        self.conv1 = norm(nn.Conv2d(nc, ndf, 3, padding=1))
        self.attention = SelfAttention(ndf, norm)
        self.conv2 = norm(nn.Conv2d(ndf, ndf, 3, padding=1))
        self.embed = norm(nn.Embedding(classes, ndf))
        self.linear = norm(nn.Linear(ndf, 1))

    def forward(self, x, y):
        h = F.avg_pool2d(F.relu(self.conv1(x)), 2)
        h = torch.sum(F.relu(self.conv2(self.attention(h))), [2, 3])
        return self.linear(h) + torch.sum(self.embed(y) * h, 1, keepdim=True)


class ConditionalPlayers(Players):
    def forward(self, z, y):
        fake = self.G(z, y)
        return fake, self.D(fake, y)


class HingeGame(Game):
    def __init__(self, net, real, noise, y):
        super().__init__(net, real, noise, betas=(0.0, 0.9))
        self.y, self.inputs = y, (noise, y)

    def loss(self):
        fake = self.net.G(*self.inputs)
        return self.d(fake.detach()) - self.net.D(fake, self.y).mean()

    def d(self, fake):
        real, out = self.net.D(self.real, self.y), self.net.D(fake, self.y)
        return F.relu(1.0 - real).mean() + F.relu(1.0 + out).mean()

    def step(self):
        for optimizer, loss_of in ((self.optimizerD, lambda fake: self.d(fake.detach())),
                                   (self.optimizerG,
                                    lambda fake: -self.net.D(fake, self.y).mean())):
            optimizer.zero_grad()
            loss = loss_of(self.net.G(*self.inputs))
            loss.backward()
            optimizer.step()
        return loss.item()


def sagan(device, norm=spectral_norm):
    net = ConditionalPlayers(ConditionalGenerator(3), ProjectionDiscriminator(3, norm)).to(device)
    return HingeGame(net, images(device, 4), torch.randn(4, nz).to(device),
                     labels(device, 4, top=3))


def sagan_parametrized(device):
    return sagan(device, parametrizations.spectral_norm)
