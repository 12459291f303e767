"""The same step in PyTorch: python bench/step.py vit-b float32 [threads] [device]. One line of standard input, one step.

BATCH=16 for other than the default number of images."""
import json
import os
import resource
import sys
import time

import torch

from vit import Vit, take_step, weight_copy

SHAPES = {"vit-s": (384, 6, 64, 16), "vit-b": (768, 12, 128, 8)}
model, precision = sys.argv[1:3]
width, heads, rank, batch = SHAPES[model]
batch = int(os.environ.get("BATCH", batch))
torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else torch.get_num_threads())
device = sys.argv[4] if len(sys.argv) > 4 else "cpu"
dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]

torch.manual_seed(0)
teacher = Vit(width, heads, 12).requires_grad_(False).to(device)
student = Vit(width, heads, 6).to(device)
parameters = weight_copy(teacher, student, rank)
optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
pixels = torch.randn(batch, 3, 224, 224, device=device)


def step():
    return take_step(teacher, student, optimizer, pixels, dtype)


step()
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    step()
    seconds = (time.perf_counter() - start) / batch
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"secondsPerImage": seconds, "peakMegabytes": peak}), flush=True)
