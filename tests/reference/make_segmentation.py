"""Writes segmentation.json: TransUNet's decoder and loss in PyTorch, on weights that a formula gives.

    python make_segmentation.py FILE      (torch, numpy, medpy)
"""
import json, sys
import numpy as np, torch, torch.nn.functional as F
from torch import nn

def numbers(shape, phase, scale):
    n = int(np.prod(shape))
    return torch.tensor((np.sin(0.7 * np.arange(n) + phase) * scale).astype(np.float32)).reshape(shape)

channels, width, grid, classes, batch = [256, 128, 64, 16], 6, 2, 3, 2
layers, before = [], width
for i, c in enumerate(channels):
    conv, norm = nn.Conv2d(before, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
    with torch.no_grad():
        conv.weight.copy_(numbers(conv.weight.shape, i, 1 / np.sqrt(9 * before)))
        norm.weight.copy_(1 + numbers(norm.weight.shape, 10 + i, 0.3)); norm.bias.copy_(numbers(norm.bias.shape, 20 + i, 0.2))
    layers += [nn.UpsamplingBilinear2d(scale_factor=2), conv, norm, nn.ReLU()]
    before = c
head = nn.Conv2d(before, classes, 3, padding=1)
with torch.no_grad():
    head.weight.copy_(numbers(head.weight.shape, 30, 0.3)); head.bias.copy_(numbers(head.bias.shape, 31, 0.1))
model = nn.Sequential(*layers, head).double()
x = numbers((batch, width, grid, grid), 40, 1.0).double().requires_grad_()
side = grid * 16
labels = torch.tensor([(b + y // 5 + z // 7) % classes for b in range(batch) for y in range(side) for z in range(side)]).reshape(batch, side, side)

def dice_loss(logits):
    p, t = logits.softmax(1), F.one_hot(labels, classes).permute(0, 3, 1, 2).double()
    each = [1 - (2 * (p[:, k] * t[:, k]).sum() + 1e-5) / ((p[:, k] ** 2).sum() + (t[:, k] ** 2).sum() + 1e-5) for k in range(classes)]
    return sum(each) / classes

logits = model(x)
loss = 0.5 * F.cross_entropy(logits, labels) + 0.5 * dice_loss(logits)
loss.backward()
names = {}
for i in range(4):
    conv, norm = model[4 * i + 1], model[4 * i + 2]
    names[f"decoder.{i}.conv.weight"] = conv.weight
    names[f"decoder.{i}.norm.weight"] = norm.weight
    names[f"decoder.{i}.norm.bias"] = norm.bias
names["decoder.head.weight"], names["decoder.head.bias"] = model[16].weight, model[16].bias
def sample(t):
    t = t.detach().reshape(-1)
    return t[:: max(1, len(t) // 64)].tolist()
result = {"loss": loss.item(), "logits": sample(logits), "input": sample(x.grad),
          "gradients": {k: {"sample": sample(v.grad), "norm": v.grad.norm().item()} for k, v in names.items()},
          "statistics": {f"decoder.{i}.norm.running_{s}": sample(getattr(model[4 * i + 2], f"running_{s}")) for i in range(4) for s in ("mean", "var")}}
model.eval()
result["evaluated"] = sample(model(x))

# Hausdorff distances of two masks of three classes, in millimetres.
from medpy.metric.binary import hd95
rng = np.random.default_rng(1)
shape, spacing = (9, 12, 11), (3.0, 1.0, 0.5)
grid_ = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
def mask(shift):
    d = np.sqrt(((grid_ - np.array([4, 6, 5]) - shift) ** 2).sum(-1)) + rng.uniform(-0.7, 0.7, shape)
    return np.where(d < 2, 2, np.where(d < 4, 1, 0))
a, b = mask(0), mask(np.array([0.6, -0.8, 1.1]))
result["hausdorff"] = {"dims": shape, "spacing": spacing, "a": a.reshape(-1).tolist(), "b": b.reshape(-1).tolist(),
                       "hd95": [hd95(a == k, b == k, voxelspacing=spacing, connectivity=1) for k in (1, 2)]}
json.dump(result, open(sys.argv[1], "w"))
