#!/usr/bin/env python3
"""An independent PyTorch oracle for V-JEPA (arXiv 2404.08471) with several groups and masks: numbers for `replay`.

Needs: pip install torch numpy safetensors (CPU is enough).  It writes files that the tests read; the tests do not run it.

  vjepa_torch.py groups --out groups    five clips in groups of two (the last holds one), three masks
  vjepa_torch.py single --out single    three clips, one mask, groups of one: no clip is trimmed

The model of `groups` is

  vjepac compile --taps models/vjepa-vitl16.vjepa:vjepa_vitl16
    --set clip.frames=6 --set 'clip.size=10 px' --set 'encoder.patch=2 px'
    --set encoder.dim=20 --set encoder.depth=2 --set encoder.heads=2 --set predictor.dim=14 --set predictor.depth=1
    --set 'masks=[short, long, multiblock(tokens, blocks = 3, area = 30%, aspect = 0.75..1.5)]'
    --set 'train.precision="f32"' --set train.batch=5 --set train.group=2
    --set train.warmup=2 --set train.steps=4 --set train.horizon=5 --set train.clip_grad=0.5

and that of `single` is the same with

    --set 'masks=[multiblock(tokens, blocks = 3, area = 30%, aspect = 0.75..1.5)]' --set train.batch=3 --set train.group=1
    --set train.steps=3

It is the yardstick of the published method (one group, two masks) and differs from it in this:
- the index rows of a mask are cut to the shortest row of each group of `group` consecutive clips, not of the batch;
  a network runs group by group, and the loss is the mean over clips: groups count by their clips;
- in the files, index rows are filled with -1 and rows of `context.k` and `prediction.k` with zeros, up to the longest;
- weights are larger than the published initial ones, and biases, norms and mask tokens are moved off their starting
  values, so that a mistake in any of them shows; gradients are clipped at `clip`, which they reach.

Shapes: clip [B, 3, T, H, W]; tokens N = (T/tubelet)(H/patch)(W/patch), time-major, then row, then column.
Parameter names are those of published V-JEPA checkpoints.
"""
import argparse, copy, json, math, os

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F


def sincos_1d(dim, pos):
    """[len(pos), dim]: sines then cosines, frequencies 10000^(-2i/dim)."""
    freq = 1.0 / 10000 ** (np.arange(dim // 2, dtype=np.float64) / (dim / 2.0))
    angle = np.outer(pos.reshape(-1), freq)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def sincos_3d(dim, t, h, w):
    """[t*h*w, dim], columns ordered time | row | column.

    'Uniform power': each axis gets ceil(dim/6)*2 columns, and the concatenation is cut to dim.
    """
    each = int(np.ceil(dim / 6) * 2)
    tt, hh, ww = np.meshgrid(np.arange(t), np.arange(h), np.arange(w), indexing="ij")
    table = np.concatenate([sincos_1d(each, a.astype(np.float64)) for a in (tt, hh, ww)], axis=1)
    return torch.from_numpy(table[:, :dim]).float()


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))  # exact (erf) GELU


class Block(nn.Module):
    """Pre-norm transformer block, LayerNorm eps 1e-6."""

    def __init__(self, dim, heads, ratio=4.0):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim, eps=1e-6), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim, eps=1e-6), Mlp(dim, int(dim * ratio))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def take(x, index):
    """Rows of x [B, N, D] at index [B, K] -> [B, K, D]."""
    return torch.gather(x, 1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


class PatchEmbed(nn.Module):
    def __init__(self, dim, patch, tubelet):
        super().__init__()
        size = (tubelet, patch, patch)
        self.proj = nn.Conv3d(3, dim, size, stride=size)

    def forward(self, clip):
        return self.proj(clip).flatten(2).transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.patch_embed = PatchEmbed(c.dim, c.patch, c.tubelet)
        self.pos_embed = nn.Parameter(sincos_3d(c.dim, *c.grid)[None], requires_grad=False)
        self.blocks = nn.ModuleList(Block(c.dim, c.heads) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.dim, eps=1e-6)

    def forward(self, clip, visible=None):
        x = self.patch_embed(clip) + self.pos_embed
        if visible is not None:
            x = take(x, visible)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Predictor(nn.Module):
    """Narrow transformer; heads equal the encoder's heads, one learnable mask token per mask kind."""

    def __init__(self, c):
        super().__init__()
        self.predictor_embed = nn.Linear(c.dim, c.pred_dim)
        self.mask_tokens = nn.ParameterList(nn.Parameter(torch.zeros(1, 1, c.pred_dim)) for _ in c.masks)
        self.predictor_pos_embed = nn.Parameter(sincos_3d(c.pred_dim, *c.grid)[None], requires_grad=False)
        self.predictor_blocks = nn.ModuleList(Block(c.pred_dim, c.heads) for _ in range(c.pred_depth))
        self.predictor_norm = nn.LayerNorm(c.pred_dim, eps=1e-6)
        self.predictor_proj = nn.Linear(c.pred_dim, c.dim)

    def forward(self, context, visible, masked, kind):
        b, k = masked.shape
        pos = self.predictor_pos_embed.expand(b, -1, -1)
        x = self.predictor_embed(context) + take(pos, visible)
        y = self.mask_tokens[kind].expand(b, k, -1) + take(pos, masked)
        x = torch.cat([x, y], dim=1)
        for block in self.predictor_blocks:
            x = block(x)
        return self.predictor_proj(self.predictor_norm(x)[:, -k:])


def init_weights(module):
    """Linear: normal(0, 0.02) cut at +-2 (absolute), zero bias; LayerNorm: ones and zeros.

    Conv3d keeps its own truncated-normal(0.02) weight and zero bias. No depth-wise rescaling survives.
    """
    if isinstance(module, (nn.Linear, nn.Conv3d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def multiblock(c, spec, batch, rng):
    """One mask kind for a batch -> for each group its visible [g, Kv] and masked [g, Km] (sorted token indices).

    Block size is drawn once a batch and shared; positions are drawn for each block of each clip. The
    union of the blocks is masked. A clip with nothing visible is drawn again. Every row is cut to its
    group's shortest, so that the group is rectangular.
    """
    t, h, w = c.grid
    area = int(h * w * spec["scale"])
    aspect = rng.uniform(*spec["aspect"])
    bh = min(h, int(round(math.sqrt(area * aspect))))
    bw = min(w, int(round(math.sqrt(area / aspect))))
    visible, masked = [], []
    while len(visible) < batch:
        keep = np.ones((t, h, w), bool)
        for _ in range(spec["blocks"]):
            top, left = rng.integers(0, h - bh + 1), rng.integers(0, w - bw + 1)
            keep[:, top:top + bh, left:left + bw] = False
        if keep.any():
            visible.append(np.flatnonzero(keep)), masked.append(np.flatnonzero(~keep))
    cut = lambda rows: torch.from_numpy(np.stack([r[:min(map(len, rows))] for r in rows]))
    groups = range(0, batch, c.group)
    return [(cut(visible[i:i + c.group]), cut(masked[i:i + c.group])) for i in groups]


def lr_at(step, c):
    """Linear warm-up start->peak, then a cosine to the final rate; step counts from 1."""
    if step < c.warmup:
        return c.lr_start + step / max(1, c.warmup) * (c.lr - c.lr_start)
    p = (step - c.warmup) / max(1, c.horizon - c.warmup)
    return max(c.lr_final, c.lr_final + (c.lr - c.lr_final) * 0.5 * (1 + math.cos(math.pi * p)))


def wd_at(step, c):
    p = step / c.horizon
    return min(c.wd_final, c.wd_final + (c.wd - c.wd_final) * 0.5 * (1 + math.cos(math.pi * p)))


def ema_at(step, c):
    """step counts from 0."""
    return c.ema + step * (1.0 - c.ema) / c.horizon


class Trainer:
    def __init__(self, c):
        torch.manual_seed(c.seed)
        self.c, self.step = c, 0
        self.encoder, self.predictor = Encoder(c), Predictor(c)
        for net in (self.encoder, self.predictor):
            net.apply(init_weights)
        self.enlarge()
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)
        self.call = [self.encoder, self.predictor, self.target]
        named = [p for net in (self.encoder, self.predictor) for p in net.named_parameters() if p[1].requires_grad]
        decay = [p for n, p in named if "bias" not in n and p.ndim != 1]
        plain = [p for n, p in named if "bias" in n or p.ndim == 1]
        self.opt = torch.optim.AdamW([dict(params=decay), dict(params=plain, weight_decay=0.0)], betas=(0.9, 0.999), eps=1e-8)

    def enlarge(self):
        """Weights as large as those of a trained network, and nothing at zero or one."""
        g = torch.Generator().manual_seed(100)
        with torch.no_grad():
            for net in (self.encoder, self.predictor):
                for name, p in net.named_parameters():
                    if p.requires_grad and p.ndim > 1 and "mask_tokens" not in name:
                        p.mul_(10)
                    elif p.requires_grad:
                        p.add_(torch.randn(p.shape, generator=g), alpha=0.2)

    def forward(self, clip, masks):
        """Loss, target features, and for each mask and group (context, prediction)."""
        encoder, predictor, target = self.call
        with torch.no_grad():
            h = target(clip)
            h = F.layer_norm(h, (h.shape[-1],))
        out, loss = [], 0
        for kind, groups in enumerate(masks):
            out.append([])
            for i, (visible, masked) in enumerate(groups):
                clips = slice(i * self.c.group, i * self.c.group + len(visible))
                z = encoder(clip[clips], visible)
                y = predictor(z, visible, masked, kind)
                out[-1].append((z, y))
                distance = (y - take(h[clips], masked)).abs().mean()
                loss = loss + distance * len(visible) / len(clip) / len(masks)
        return loss, h, out

    def train_step(self, clip, masks):
        self.step += 1
        self.opt.param_groups[0]["weight_decay"] = wd_at(self.step, self.c)
        for group in self.opt.param_groups:
            group["lr"] = lr_at(self.step, self.c)
        loss, h, out = self.forward(clip, masks)
        loss.backward()
        norms = [float(nn.utils.clip_grad_norm_(n.parameters(), self.c.clip)) for n in (self.encoder, self.predictor)]
        grads = {f"{tag}.{k}": p.grad.clone() for tag, net in (("encoder", self.encoder), ("predictor", self.predictor))
                 for k, p in net.named_parameters() if p.grad is not None} if self.c.want_grads else {}
        self.opt.step()
        self.opt.zero_grad()
        m = ema_at(self.step - 1, self.c)
        with torch.no_grad():
            for q, k in zip(self.encoder.parameters(), self.target.parameters()):
                k.mul_(m).add_(q, alpha=1 - m)
        return float(loss.detach()), h, out, grads, norms


def weights(trainer):
    nets = dict(encoder=trainer.encoder, predictor=trainer.predictor, target_encoder=trainer.target)
    return {f"{tag}.{k}": v.detach().clone().contiguous() for tag, net in nets.items() for k, v in net.state_dict().items()}


def joined(groups, fill):
    """[g, K, ...] of every group as one [B, longest K, ...]."""
    longest = max(x.shape[1] for x in groups)
    whole = [torch.full((x.shape[0], longest, *x.shape[2:]), fill, dtype=x.dtype) for x in groups]
    for w, x in zip(whole, groups):
        w[:, :x.shape[1]] = x.detach()
    return torch.cat(whole)


def golden(c):
    from safetensors.torch import save_file
    os.makedirs(c.out, exist_ok=True)
    c.want_grads = True
    trainer, rng = Trainer(c), np.random.default_rng(c.seed)
    save_file(weights(trainer), f"{c.out}/weights.0.safetensors")
    log = []
    for step in range(1, c.steps + 1):
        clip = torch.randn(c.batch, 3, c.frames, c.size, c.size, generator=torch.Generator().manual_seed(step))
        masks = [multiblock(c, spec, c.batch, rng) for spec in c.masks]
        loss, h, out, grads, norms = trainer.train_step(clip, masks)
        blob = {"clip": clip}
        for i, groups in enumerate(masks):
            blob |= {f"visible.{i}": joined([v for v, _ in groups], -1), f"masked.{i}": joined([m for _, m in groups], -1)}
        if step <= c.full:
            blob |= {"target": h} | {f"grad.{k}": v for k, v in grads.items()}
            for i, groups in enumerate(out):
                blob |= {f"context.{i}": joined([z for z, _ in groups], 0.0), f"prediction.{i}": joined([y for _, y in groups], 0.0)}
        save_file({k: v.contiguous() for k, v in blob.items()}, f"{c.out}/step.{step}.safetensors")
        counts = [[(v.shape[1], m.shape[1]) for v, m in groups] for groups in masks]
        log.append(dict(step=step, loss=loss, lr=lr_at(step, c), weight_decay=wd_at(step, c), ema=ema_at(step - 1, c),
                        encoder_grad_norm=norms[0], predictor_grad_norm=norms[1]))
        print(json.dumps(log[-1] | dict(counts=counts)))
    json.dump(dict(config={k: v for k, v in vars(c).items() if k not in ("out", "run", "want_grads")}, steps=log), open(f"{c.out}/golden.json", "w"), indent=1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", choices=["groups", "single"])
    p.add_argument("--out")
    c = p.parse_args()
    c.out = c.out or c.run
    sizes = dict(dim=20, depth=2, heads=2, pred_dim=14, pred_depth=1, frames=6, size=10, patch=2, tubelet=2, seed=0)
    rates = dict(warmup=2, horizon=5, lr_start=2e-4, lr=6.25e-4, lr_final=1e-6, wd=0.04, wd_final=0.4, ema=0.998, clip=0.5)
    short, long, third = (dict(blocks=b, scale=s, aspect=(0.75, 1.5)) for b, s in ((8, 0.15), (2, 0.70), (3, 0.30)))
    runs = dict(groups=dict(batch=5, group=2, steps=4, full=2, masks=[short, long, third]),
                single=dict(batch=3, group=1, steps=3, full=1, masks=[third]))
    for name, value in (sizes | rates | runs[c.run]).items():
        setattr(c, name, value)
    c.grid = (c.frames // c.tubelet, c.size // c.patch, c.size // c.patch)
    golden(c)


if __name__ == "__main__":
    main()
