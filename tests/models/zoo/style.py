"""Style transfer: Gram matrices of features, an image that is optimised, a network that learns."""
from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim

from .training import Training, images

CONTENT, STYLE = ['conv_2'], ['conv_1', 'conv_2']


def gram_matrix(input):
    rows = input.flatten(0, 1).flatten(1)
    return torch.mm(rows, rows.t()).div_(input.numel())


class ContentLoss(nn.Module):
    def __init__(self, target):
        super(ContentLoss, self).__init__()
        self.target = target.detach()

    def forward(self, input):
        self.loss = F.mse_loss(input, self.target)
        return input


class StyleLoss(nn.Module):
    def __init__(self, target_feature):
        super(StyleLoss, self).__init__()
        self.register_buffer("target", gram_matrix(target_feature).detach())

    def forward(self, input):
        self.loss = F.mse_loss(gram_matrix(input), self.target)
        return input


class Standardized(nn.Module):
    def __init__(self, mean, std):
        super(Standardized, self).__init__()
        self.mean, self.std = (t.detach().clone()[:, None, None] for t in (mean, std))

    def forward(self, img):
        return (img - self.mean) / self.std


def features(device):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True),
                        nn.AvgPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True))
    return net.to(device).eval().requires_grad_(False)


def with_losses(cnn, style_img, content_img):
    """The layers up to the last loss; a loss stands behind the layer that it looks at."""
    device = content_img.device
    model = nn.Sequential(Standardized(torch.tensor([0.5, 0.4, 0.4]).to(device),
                                        torch.tensor([0.2, 0.3, 0.2]).to(device)))
    losses, i = [], 0
    for layer in cnn.children():
        i += isinstance(layer, nn.Conv2d)
        if isinstance(layer, nn.ReLU):               # in place it would change what a loss keeps
            layer = nn.ReLU(inplace=False)
        kind = {nn.Conv2d: 'conv', nn.ReLU: 'relu'}.get(type(layer), 'pool')
        name = f'{kind}_{i}'
        model.add_module(name, layer)
        for kind, names, image in ((ContentLoss, CONTENT, content_img),
                                   (StyleLoss, STYLE, style_img)):
            if name in names:
                loss = kind(model(image).detach())
                model.add_module("{}_{}".format(kind.__name__, i), loss)
                losses.append(loss)
    last = max(i for i, m in enumerate(model) if isinstance(m, (ContentLoss, StyleLoss)))
    return model[:last + 1], losses


class Picture(nn.Module):
    """The image is the parameter."""

    def __init__(self, image, model):
        super().__init__()
        self.image, self.model = nn.Parameter(image), model

    def forward(self):
        return self.model(self.image)


class ImageByLBFGS(Training):
    def loss(self):
        self.net()
        total = sum(10 ** (2 * isinstance(m, StyleLoss)) * m.loss for m in self.net.model
                    if hasattr(m, "loss"))
        x = self.net.image
        tv = torch.abs(x[:, :, :, 1:] - x[:, :, :, :-1]).mean() + \
            torch.abs(x[:, :, 1:, :] - x[:, :, :-1, :]).mean()
        return total + 0.01 * tv

    def step(self):
        def closure():
            with torch.no_grad():
                self.net.image.clamp_(0, 1)
            self.optimizers[0].zero_grad()
            loss = self.loss()
            loss.backward()
            return loss
        return self.optimizers[0].step(closure).item()


def style_of_an_image(device):
    style_img, content_img = (torch.rand(1, 3, 12, 12).to(device) for _ in range(2))
    model, _ = with_losses(features(device), style_img, content_img)
    model.requires_grad_(False)
    net = Picture(content_img.clone(), model)
    return ImageByLBFGS(net, [], optimizer=optim.LBFGS([net.image], lr=0.5, max_iter=4))


class ConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride, upsample=None):
        super().__init__()
        self.upsample = upsample
        self.reflection_pad = nn.ReflectionPad2d(kernel_size // 2)
        self.conv2d = nn.Conv2d(in_channels, out_channels, kernel_size, stride)

    def forward(self, x):
        if self.upsample:
            x = F.interpolate(x, mode='nearest', scale_factor=self.upsample)
        return self.conv2d(self.reflection_pad(x))


class ResidualBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, kernel_size=3, stride=1)
        self.in1 = nn.InstanceNorm2d(channels, affine=True, track_running_stats=True)
        self.prelu = nn.PReLU(channels)

    def forward(self, x):
        return self.prelu(self.in1(self.conv1(x))) + x


class TransformerNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.in1 = ConvLayer(3, 4, 5, 2), nn.InstanceNorm2d(4, affine=True)
        self.res1 = ResidualBlock(4)
        self.deconv1 = ConvLayer(4, 3, 5, stride=1, upsample=2)
        self.relu = nn.ReLU6()

    def forward(self, X):
        return self.deconv1(self.res1(self.relu(self.in1(self.conv1(X)))))


def fast_style(device):
    """Features come from hooks; the losses from their statistics."""
    cnn, kept = features(device), {}
    for i in (1, 4):
        cnn[i].register_forward_hook(lambda module, args, out, i=i: kept.__setitem__(i, out))
    net, x = TransformerNet().to(device), images(device, 2, 12)
    cnn(torch.rand(1, 3, 12, 12).to(device))
    style = {i: gram_matrix(f) for i, f in kept.items()}

    def per_image(y):
        b, ch, h, w = y.size()
        f = y.view(b, ch, w * h)
        return f.bmm(f.transpose(1, 2)) / (ch * h * w)

    def criterion(y):
        cnn(x)
        content = kept[4].clone()
        cnn(y)
        loss = F.mse_loss(kept[4], content)
        for i, gm in style.items():
            loss = loss + 10 * F.mse_loss(per_image(kept[i]), gm.expand(2, *gm.shape))
        mean, std = torch.std_mean(y.flatten(2), dim=-1)[::-1]
        return loss + 1e-3 * (mean.abs().sum() + (std - 1).abs().sum())

    return Training(net, [x], criterion, optim.Adam(net.parameters(), 1e-3))
