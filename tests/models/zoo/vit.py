"""Vision transformer with pre-norm blocks, layer scale, positions that fit other image sizes."""
# ruff: noqa: UP
import math
from collections import OrderedDict
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Set, Tuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.checkpoint
from torch.jit import Final
from torch.nn.modules.utils import _pair

from .training import Training, images, labels


def named_apply(fn: Callable, module: nn.Module, name: str = "", depth_first: bool = True,
                include_root: bool = False) -> nn.Module:
    if not depth_first and include_root:
        fn(module=module, name=name)
    for child_name, child_module in module.named_children():
        child_name = ".".join((name, child_name)) if name else child_name
        named_apply(fn=fn, module=child_module, name=child_name, depth_first=depth_first,
                    include_root=True)
    if depth_first and include_root:
        fn(module=module, name=name)
    return module


class PatchEmbed(nn.Module):
    output_fmt: str
    dynamic_img_pad: Final[bool] = True

    def __init__(self, img_size: Union[int, Tuple[int, int]], patch_size: int, in_chans: int,
                 embed_dim: int) -> None:
        super().__init__()
        self.img_size, self.patch_size = _pair(img_size), _pair(patch_size)
        self.grid_size = tuple(s // p for s, p in zip(self.img_size, self.patch_size))
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.Identity()

    def forward(self, x: torch.Tensor) -> Tuple[torch.Tensor, int, int]:
        B, C, H, W = x.shape
        torch._assert(C == 3, "three channels expected")
        if self.dynamic_img_pad:
            pad_h = (self.patch_size[0] - H % self.patch_size[0]) % self.patch_size[0]
            pad_w = (self.patch_size[1] - W % self.patch_size[1]) % self.patch_size[1]
            x = F.pad(x, (0, pad_w, 0, pad_h))
        x = self.proj(x)
        h, w = x.shape[-2:]
        return self.norm(x.flatten(2).transpose(1, 2)), h, w


class Attention(nn.Module):
    fused_attn: Final[bool]

    def __init__(self, dim: int, num_heads: int = 8, qkv_bias: bool = False, qk_norm: bool = False,
                 attn_drop: float = 0., proj_drop: float = 0., fused: bool = True) -> None:
        super().__init__()
        assert dim % num_heads == 0, "dim should be divisible by num_heads"
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.scale = self.head_dim ** -0.5
        self.fused_attn = fused and hasattr(F, "scaled_dot_product_attention")
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.q_norm = nn.LayerNorm(self.head_dim) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(self.head_dim) if qk_norm else nn.Identity()
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.fused_attn:
            x = F.scaled_dot_product_attention(
                q, k, v, dropout_p=self.attn_drop.p if self.training else 0.)
        else:
            q = q * self.scale
            attn = q @ k.transpose(-2, -1)
            attn = attn.softmax(dim=-1)
            attn = self.attn_drop(attn)
            x = attn @ v
        x = x.transpose(1, 2).reshape(B, N, C)
        return self.proj_drop(self.proj(x))


class LayerScale(nn.Module):
    def __init__(self, dim: int, init_values: float = 1e-5, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        self.gamma = nn.Parameter(init_values * torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(self.gamma) if self.inplace else x * self.gamma


class Block(nn.Module):
    def __init__(self, dim: int, num_heads: int, fused: bool, qk_norm: bool,
                 act_layer: Callable[..., nn.Module] = nn.GELU,
                 norm_layer: Callable[..., nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = Attention(dim, num_heads, True, qk_norm, 0.1, 0.1, fused)
        self.ls1 = LayerScale(dim, 0.1, inplace=True)
        self.norm2 = norm_layer(dim)
        self.mlp = nn.Sequential(OrderedDict([
            ("fc1", nn.Linear(dim, 2 * dim)), ("act", act_layer()), ("drop1", nn.Dropout(0.1)),
            ("fc2", nn.Linear(2 * dim, dim)), ("drop2", nn.Dropout(0.1))]))
        self.ls2 = LayerScale(dim, 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


def resample_pos_embed(posemb: torch.Tensor, new: Tuple[int, int], old: Tuple[int, int],
                       num_prefix_tokens: int) -> torch.Tensor:
    if new == old:
        return posemb
    prefix, grid = posemb[:, :num_prefix_tokens], posemb[:, num_prefix_tokens:]
    embed_dim, orig_dtype = grid.shape[-1], grid.dtype
    grid = grid.float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=new, mode="bicubic", antialias=False, align_corners=False)
    grid = grid.permute(0, 2, 3, 1).reshape(1, -1, embed_dim).to(orig_dtype)
    return torch.cat([prefix, grid], dim=1)


class VisionTransformer(nn.Module):
    dynamic_img_size: Final[bool]

    def __init__(self, img_size: int = 16, patch_size: int = 4, num_classes: int = 5,
                 embed_dim: int = 12, depth: int = 2, num_heads: int = 3, fused: bool = True,
                 norm_layer: Optional[Callable] = None) -> None:
        super().__init__()
        norm_layer = norm_layer or partial(nn.LayerNorm, eps=1e-6)
        self.num_prefix_tokens = 2
        self.grad_checkpointing = False
        self.patch_embed = PatchEmbed(img_size, patch_size, 3, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.reg_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        embed_len = self.patch_embed.num_patches + self.num_prefix_tokens
        self.pos_embed = nn.Parameter(torch.randn(1, embed_len, embed_dim) * .02)
        self.blocks = nn.Sequential(*[Block(embed_dim, num_heads, fused, i > 0,
                                            norm_layer=norm_layer) for i in range(depth)])
        self.norm = norm_layer(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes > 0 else nn.Identity()
        self.init_weights()

    def init_weights(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.normal_(self.reg_token, std=1e-6)
        named_apply(self._init_weights, self)

    @staticmethod
    def _init_weights(module: nn.Module, name: str = "", head_bias: float = -0.5) -> None:
        if isinstance(module, nn.Linear):
            if name.startswith("head"):
                nn.init.zeros_(module.weight)
                nn.init.constant_(module.bias, head_bias)
            elif "qkv" in name:
                val = math.sqrt(6. / float(module.weight.shape[0] // 3 + module.weight.shape[1]))
                nn.init.uniform_(module.weight, -val, val)
                nn.init.zeros_(module.bias)
            else:
                nn.init.xavier_uniform_(module.weight)
                nn.init.normal_(module.bias, std=1e-6)

    @torch.jit.ignore
    def no_weight_decay(self) -> Set[str]:
        return {"pos_embed", "cls_token", "reg_token"}

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> Dict[str, Any]:
        return dict(stem=r"^cls_token|pos_embed|patch_embed", blocks=[(r"^blocks\.(\d+)", None)])

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def _pos_embed(self, x: torch.Tensor, h: int, w: int) -> torch.Tensor:
        pos_embed = resample_pos_embed(self.pos_embed, (h, w), self.patch_embed.grid_size,
                                       self.num_prefix_tokens)
        to_cat = [t.expand(x.shape[0], -1, -1) for t in (self.cls_token, self.reg_token)]
        return torch.cat(to_cat + [x], dim=1) + pos_embed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._pos_embed(*self.patch_embed(x))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            x = torch.utils.checkpoint.checkpoint_sequential(self.blocks, 2, x,
                                                             use_reentrant=False)
        else:
            x = self.blocks(x)
        return self.head(self.norm(x)[:, 0])


def param_groups_layer_decay(model: VisionTransformer, weight_decay: float,
                             layer_decay: float = .75) -> List[Dict[str, Any]]:
    groups: Dict[str, Dict[str, Any]] = {}
    num_layers = len(model.blocks) + 1
    scales = list(layer_decay ** (num_layers - i) for i in range(num_layers + 1))
    for name, param in model.named_parameters():
        decayed = param.ndim > 1 and name not in model.no_weight_decay()
        parts = name.split(".")
        layer = int(parts[1]) + 1 if parts[0] == "blocks" else (
            num_layers if parts[0] in ("norm", "head") else 0)
        group = groups.setdefault(f"layer_{layer}_{decayed}", {
            "lr_scale": scales[layer], "weight_decay": weight_decay if decayed else 0.,
            "params": []})
        group["params"].append(param)
    return list(groups.values())


class ScaledGroups(Training):
    """Sets each group's rate from one rate before the step, by hand."""

    def step(self) -> float:
        for group in self.optimizers[0].param_groups:
            group["lr"] = 5e-3 * group["lr_scale"]
        return super().step()


def vit(device: str, size: int = 16, fused: bool = True) -> Training:
    net = VisionTransformer(fused=fused).to(device)
    net.set_grad_checkpointing(not fused)
    optimizer = torch.optim.AdamW(param_groups_layer_decay(net, 0.05), lr=5e-3, betas=(0.9, 0.99))
    y = labels(device, 4)
    return ScaledGroups(net, [images(device, 4, size)], lambda out: F.cross_entropy(out, y),
                        optimizer, clip=1.0)


def vit_larger_images(device: str) -> Training:
    """Positions are resized, the image is padded, blocks are computed again backwards."""
    return vit(device, 22, fused=False)
