"""A ViT in PyTorch as timm builds it, with adapters on a student's maps: what the benchmarks' peers run."""
import torch
from torch import nn
import torch.nn.functional as F

MAPS = ("q", "k", "v", "proj", "fc1", "fc2")


class Linear(nn.Module):
    """A frozen map with an adapter beside it."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        place = base.weight.device
        self.A = nn.Parameter(torch.empty(rank, base.in_features, device=place).uniform_(-1, 1) / base.in_features**0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, device=place))

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.A), self.B)


class Block(nn.Module):
    def __init__(self, width, heads, scaled):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        if scaled:
            self.ls1 = nn.Parameter(torch.ones(width))
            self.ls2 = nn.Parameter(torch.ones(width))
        self.scaled = scaled

    def forward(self, x):
        b, n, width = x.shape
        y = self.norm1(x)
        q, k, v = (m(y).view(b, n, self.heads, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
        y = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width))
        x = x + (y * self.ls1 if self.scaled else y)
        y = self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return x + (y * self.ls2 if self.scaled else y)


class Vit(nn.Module):
    """Images `[B, 3, S, S]` to the last block's output `[B, N, D]`."""

    def __init__(self, width, heads, depth, patch=16, size=224, scaled=False):
        super().__init__()
        self.patch = nn.Conv2d(3, width, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, scaled) for _ in range(depth))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        for block in self.blocks:
            x = block(x)
        return x


def weight_copy(teacher, student, rank):
    """Every second block of the teacher in the student, with adapters of this rank on all six maps."""
    student.load_state_dict({k: v for k, v in teacher.state_dict().items() if not k.startswith("blocks.")}, strict=False)
    for j, block in enumerate(student.blocks):
        block.load_state_dict(teacher.blocks[2 * j].state_dict())
    student.requires_grad_(False)
    for block in student.blocks:
        for name in MAPS:
            setattr(block, name, Linear(getattr(block, name), rank))
    return [p for p in student.parameters() if p.requires_grad]


def take_step(teacher, student, optimizer, pixels, dtype):
    """One step of the paper's loss, in bfloat16 by autocast where that is `dtype`; the loss before it."""
    with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        with torch.no_grad():
            target = teacher(pixels)
        loss = (student(pixels) - target).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())
