"""The U-Net in torch that the files unet_*.py are ports of: noise level, group norm, skip connections, upsampling."""

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, TIME = 8, 12


class Residual(nn.Module):
    def __init__(self, inner, outer):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.time = nn.Linear(TIME, outer)
        self.norm2, self.conv2 = nn.GroupNorm(2, outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x, t):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(F.silu(t))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.time1, self.act, self.time2 = nn.Linear(TIME, TIME), nn.SiLU(), nn.Linear(TIME, TIME)
        self.enter = nn.Conv2d(2, WIDTH, 3, padding=1)
        self.down1 = Residual(WIDTH, WIDTH)
        self.pool = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.down2 = Residual(WIDTH, 2 * WIDTH)
        self.middle = Residual(2 * WIDTH, 2 * WIDTH)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up1 = Residual(3 * WIDTH, WIDTH)
        self.norm = nn.GroupNorm(4, WIDTH, eps=1e-6)
        self.leave = nn.Conv2d(WIDTH, 2, 3, padding=1)

    def forward(self, x, t):
        frequencies = 100.0 ** -(torch.arange(TIME // 2).to(x.dtype) / (TIME // 2))
        angles = t[:, None] * frequencies
        t = self.time2(self.act(self.time1(torch.cat([angles.sin(), angles.cos()], -1))))
        x = first = self.down1(self.enter(x), t)
        x = self.middle(self.down2(self.pool(x), t), t)
        x = self.up1(torch.cat([self.up(x), first], 1), t)
        return self.leave(F.silu(self.norm(x)))
