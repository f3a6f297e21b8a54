"""Denoising diffusion: a U-Net with time embeddings, the schedule, sampling, an average."""
from __future__ import annotations

import math
from functools import partial

import torch
from torch import einsum, nn
from torch.cuda.amp import autocast
from torch.nn import functional as F

from .training import ModelEma, Training, images, labels


def exists(x):
    return x is not None


def default(val, d):
    if exists(val):
        return val
    return d() if callable(d) else d


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x, *args, **kwargs):
        return self.fn(x, *args, **kwargs) + x


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim, theta=10000):
        super().__init__()
        self.dim, self.theta = dim, theta

    def forward(self, x):
        steps = torch.linspace(0, 1, self.dim // 2, device=x.device)
        angles = torch.outer(x.float(), self.theta ** -steps)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x):
        return F.normalize(x, dim=1) * self.g * (x.shape[1] ** 0.5)


class WeightStandardizedConv2d(nn.Conv2d):
    def forward(self, x):
        dims = tuple(range(1, self.weight.dim()))
        centred = self.weight - self.weight.mean(dims, keepdim=True)
        var = self.weight.var(dim=dims, keepdim=True, unbiased=False)
        return self._conv_forward(x, centred * (var + torch.finfo(x.dtype).eps).rsqrt(), self.bias)


class Block(nn.Module):
    def __init__(self, dim, dim_out, groups=2):
        super().__init__()
        self.proj = WeightStandardizedConv2d(dim, dim_out, 3, padding=1)
        self.norm = nn.GroupNorm(groups, dim_out)
        self.act = nn.SiLU()

    def forward(self, x, scale_shift=None):
        x = self.norm(self.proj(x))
        if exists(scale_shift):
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return self.act(x)


class ResnetBlock(nn.Module):
    def __init__(self, dim, dim_out, *, time_emb_dim=None):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_emb_dim, dim_out * 2)) if exists(
            time_emb_dim) else None
        self.block1 = Block(dim, dim_out)
        self.block2 = Block(dim_out, dim_out)
        self.res_conv = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x, time_emb=None):
        scale_shift = None
        if exists(self.mlp) and exists(time_emb):
            time_emb = self.mlp(time_emb)[..., None, None]
            scale_shift = time_emb.chunk(2, dim=1)
        h = self.block2(self.block1(x, scale_shift=scale_shift))
        return h + self.res_conv(x)


class LinearAttention(nn.Module):
    def __init__(self, dim, heads=2, dim_head=4):
        super().__init__()
        self.scale, self.heads = dim_head ** -0.5, heads
        hidden_dim = dim_head * heads
        self.norm = RMSNorm(dim)
        self.to_qkv = nn.Conv2d(dim, hidden_dim * 3, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(hidden_dim, dim, 1), RMSNorm(dim))

    def forward(self, x):
        parts = self.to_qkv(self.norm(x)).tensor_split(3, dim=1)
        q, k, v = (t.flatten(2).unflatten(1, (self.heads, -1)) for t in parts)
        seen = einsum('bhdn,bhen->bhde', k.softmax(-1), v)
        y = einsum('bhde,bhdn->bhen', seen, F.softmax(q, dim=2)).mul(self.scale)
        return self.to_out(y.flatten(1, 2).view_as(parts[0]))


class Attention(nn.Module):
    def __init__(self, dim, heads=2, dim_head=4):
        super().__init__()
        self.scale, self.heads = dim_head ** -0.5, heads
        self.to_qkv = nn.Conv2d(dim, dim_head * heads * 3, 1, bias=False)
        self.to_out = nn.Conv2d(dim_head * heads, dim, 1)

    def forward(self, x):
        q, k, v = map(lambda t: t.unflatten(1, (self.heads, -1)).flatten(3).mT,
                      self.to_qkv(x).chunk(3, dim=1))
        scores = einsum('... i d, ... j d -> ... i j', q * self.scale, k)
        scores = scores - scores.amax(dim=-1, keepdim=True).detach()
        y = einsum('...ij,...jd->...di', scores.softmax(dim=-1), v)
        return self.to_out(y.reshape(len(x), -1, *x.shape[2:]))


class Unet(nn.Module):
    def __init__(self, dim, num_classes, channels=3, dim_mults=(1, 2)):
        super().__init__()
        self.init_conv = nn.Conv2d(channels, dim, 7, padding=3)
        dims = [dim, *map(lambda m: dim * m, dim_mults)]
        in_out = list(zip(dims[:-1], dims[1:]))
        time_dim = dim * 2
        block = partial(ResnetBlock, time_emb_dim=time_dim)
        self.time_mlp = nn.Sequential(SinusoidalPosEmb(dim), nn.Linear(dim, time_dim), nn.GELU(),
                                      nn.Linear(time_dim, time_dim))
        self.null_classes_emb = nn.Parameter(torch.randn(time_dim))
        self.classes_emb = nn.Embedding(num_classes, time_dim)
        self.downs, self.ups = nn.ModuleList([]), nn.ModuleList([])
        for i, (dim_in, dim_out) in enumerate(in_out):
            last = i >= len(in_out) - 1
            self.downs.append(nn.ModuleList([
                block(dim_in, dim_in), Residual(LinearAttention(dim_in)),
                nn.Conv2d(dim_in, dim_out, 4, 2, 1) if not last else nn.Conv2d(dim_in, dim_out, 3,
                                                                              padding=1)]))
        self.mid_block, self.mid_attn = block(dims[-1], dims[-1]), Residual(Attention(dims[-1]))
        for i, (dim_in, dim_out) in enumerate(reversed(in_out)):
            last = i == len(in_out) - 1
            self.ups.append(nn.ModuleList([
                block(dim_out + dim_in, dim_out),
                nn.Sequential(nn.Upsample(scale_factor=2, mode='nearest'),
                              nn.Conv2d(dim_out, dim_in, 3, padding=1)) if not last
                else nn.Conv2d(dim_out, dim_in, 3, padding=1)]))
        self.final_conv = nn.Conv2d(dim * 2, channels, 1)
        nn.init.zeros_(self.final_conv.bias)

    def forward(self, x, time, classes, keep):
        x = self.init_conv(x)
        r = x.clone()
        emb = torch.where(keep[:, None], self.classes_emb(classes), self.null_classes_emb)
        t = self.time_mlp(time) + emb
        h = []
        for block, attn, downsample in self.downs:
            x = attn(block(x, t))
            h.append(x)
            x = downsample(x)
        x = self.mid_attn(self.mid_block(x, t))
        for block, upsample in self.ups:
            x = F.interpolate(x, size=h[-1].shape[2:]) if x.shape[2:] != h[-1].shape[2:] else x
            x = upsample(block(torch.cat((x, h.pop()), dim=1), t))
        x = F.interpolate(x, size=r.shape[2:])
        return self.final_conv(torch.cat((x, r), dim=1))


def extract(table, t, shape):
    """The table's value at each example's time, to go with tensors of the shape."""
    return table.gather(-1, t).view(-1, *[1] * (len(shape) - 1))


def cosine_beta_schedule(steps, s=0.008):
    t = torch.linspace(s, 1 + s, steps + 1, dtype=torch.float64).div_(1 + s)
    left = t.mul(math.pi / 2).cos().square()
    return torch.clip(1 - left[1:] / left[:-1], 0, 0.999)


class GaussianDiffusion(nn.Module):
    def __init__(self, model, *, image_size, timesteps=10, objective='pred_v'):
        super().__init__()
        self.model, self.image_size, self.objective = model, image_size, objective
        self.num_timesteps = timesteps
        betas = cosine_beta_schedule(timesteps)
        alphas_cumprod = torch.cumprod(1. - betas, dim=0)
        alphas_cumprod_prev = F.pad(alphas_cumprod[:-1], (1, 0), value=1.)

        def register_buffer(name, val):
            self.register_buffer(name, val.to(torch.float32))

        register_buffer('betas', betas)
        register_buffer('alphas_cumprod', alphas_cumprod)
        register_buffer('sqrt_alphas_cumprod', torch.sqrt(alphas_cumprod))
        register_buffer('sqrt_one_minus_alphas_cumprod', torch.sqrt(1. - alphas_cumprod))
        variance = betas * (1. - alphas_cumprod_prev) / (1. - alphas_cumprod)
        register_buffer('posterior_log_variance_clipped', torch.log(variance.clamp(min=1e-20)))
        snr = alphas_cumprod / (1 - alphas_cumprod)
        maybe_clipped_snr = snr.clone()
        maybe_clipped_snr.clamp_(max=5)
        register_buffer('loss_weight', maybe_clipped_snr / (snr + 1))

    @property
    def device(self):
        return self.betas.device

    @autocast(enabled=False)
    def q_sample(self, x_start, t, noise=None):
        noise = default(noise, lambda: torch.randn_like(x_start))
        return (extract(self.sqrt_alphas_cumprod, t, x_start.shape) * x_start
                + extract(self.sqrt_one_minus_alphas_cumprod, t, x_start.shape) * noise)

    def forward(self, img, classes):
        b = img.shape[0]
        t = torch.randint(0, self.num_timesteps, (b,)).long().to(self.device)
        noise = torch.randn_like(img)
        x = self.q_sample(x_start=img, t=t, noise=noise)
        keep = torch.zeros((b,), device=self.device).float().uniform_(0, 1) < 0.5
        model_out = self.model(x, t, classes, keep)
        target = (extract(self.sqrt_alphas_cumprod, t, img.shape) * noise
                  - extract(self.sqrt_one_minus_alphas_cumprod, t, img.shape) * img)
        loss = F.mse_loss(model_out, target, reduction='none').flatten(1).mean(1)
        return (loss * extract(self.loss_weight, t, loss.shape)).mean()

    @torch.inference_mode()
    def sample(self, classes, cond_scale=2.0):
        img = torch.randn((classes.shape[0], 3, self.image_size, self.image_size)).to(self.device)
        yes, no = (torch.full((img.shape[0],), v, device=self.device, dtype=torch.bool)
                   for v in (True, False))
        for i in reversed(range(0, self.num_timesteps, 3)):
            t = torch.full((img.shape[0],), i, device=self.device, dtype=torch.long)
            cond, null = self.model(img, t, classes, yes), self.model(img, t, classes, no)
            v = null + (cond - null) * cond_scale
            a, s = (extract(b, t, img.shape) for b in (self.sqrt_alphas_cumprod,
                                                       self.sqrt_one_minus_alphas_cumprod))
            x_start = (a * img - s * v).clamp_(-1., 1.)
            std = (0.5 * extract(self.posterior_log_variance_clipped, t, img.shape)).exp()
            img = a * x_start + std * torch.randn_like(img)
        return (img + 1) * 0.5


class DiffusionTraining(Training):
    """Gradients of two halves of the batch are added up before a step; an average follows."""

    def __init__(self, net, inputs, ema, optimizer):
        super().__init__(net, inputs, lambda loss: loss, optimizer)
        self.ema = ema

    def outputs(self):
        return self.net.sample(self.inputs[1][:2]).clone()

    def loss(self):
        return self.net(*self.inputs)

    def step(self):
        self.net.train()
        total = 0.
        for half in range(2):
            rows = slice(2 * half, 2 * half + 2)
            with torch.autocast(device_type=self.net.device.type, enabled=False):
                loss = self.net(*(t[rows] for t in self.inputs)) / 2
                total += loss.item()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizers[0].step()
        self.optimizers[0].zero_grad()
        self.ema.update(self.net.model)
        return total


def diffusion(device):
    net = GaussianDiffusion(Unet(4, 5), image_size=8).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.99))
    return DiffusionTraining(net, [images(device, 4, 8), labels(device, 4)],
                             ModelEma(net.model, 0.995), optimizer)
