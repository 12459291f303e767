"""The same step in PyTorch: python bench/step.py vit-b float32. One line of standard input, one step."""
import json
import resource
import sys
import time

import torch
from torch import nn
import torch.nn.functional as F

SHAPES = {"vit-s": (384, 6, 64, 16), "vit-b": (768, 12, 128, 8)}
model, precision = sys.argv[1:3]
width, heads, rank, batch = SHAPES[model]
torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else torch.get_num_threads())
dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


class Linear(nn.Module):
    """A frozen map with an adapter beside it where a rank is given."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        self.A = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-1, 1) / base.in_features**0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.A), self.B)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        b, n, _ = x.shape
        y = self.norm1(x)
        q, k, v = (m(y).view(b, n, heads, -1).transpose(1, 2) for m in (self.q, self.k, self.v))
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 16, 16)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.zeros(1, 197, width))
        self.blocks = nn.ModuleList(Block() for _ in range(depth))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        for block in self.blocks:
            x = block(x)
        return x


torch.manual_seed(0)
teacher = Vit(12).requires_grad_(False)
student = Vit(6)
for j, block in enumerate(student.blocks):
    block.load_state_dict(teacher.blocks[2 * j].state_dict())
student.requires_grad_(False)
for block in student.blocks:
    for name in ("q", "k", "v", "proj", "fc1", "fc2"):
        setattr(block, name, Linear(getattr(block, name), rank))
parameters = [p for p in student.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
pixels = torch.randn(batch, 3, 224, 224)


def step():
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        with torch.no_grad():
            target = teacher(pixels)
        loss = (student(pixels) - target).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


step()
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    step()
    seconds = (time.perf_counter() - start) / batch
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"secondsAPicture": seconds, "peakMegabytes": peak}), flush=True)
