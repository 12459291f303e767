"""The paper's recipe in PyTorch on what bench/quality.js has written: python bench/quality.py FOLDER float32"""
import json
import sys
import time

import numpy
import torch

from vit import Vit, take_step, weight_copy

folder, precision = sys.argv[1:3]
dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
with open(f"{folder}/plan.json") as file:
    plan = json.load(file)
width, heads, depth, patch, rank = (plan[key] for key in ("width", "heads", "depth", "patch", "rank"))
numbers = numpy.memmap(f"{folder}/weights.bin", dtype=numpy.float32, mode="r")
weights = {}
for name, dims, at in plan["weights"]:
    weights[name] = torch.from_numpy(numbers[at : at + int(numpy.prod(dims))].reshape(dims).copy())

state = {
    "patch.weight": weights["patch_embed.proj.weight"],
    "patch.bias": weights["patch_embed.proj.bias"],
    "cls": weights["cls_token"],
    "pos": weights["pos_embed"],
}
for i in range(depth):
    block = f"blocks.{i}."
    for kind in ("weight", "bias"):
        for norm in ("norm1", "norm2"):
            state[f"{block}{norm}.{kind}"] = weights[f"{block}{norm}.{kind}"]
        for name, part in zip("qkv", weights[f"{block}attn.qkv.{kind}"].chunk(3)):
            state[f"{block}{name}.{kind}"] = part
        state[f"{block}proj.{kind}"] = weights[f"{block}attn.proj.{kind}"]
        state[f"{block}fc1.{kind}"] = weights[f"{block}mlp.fc1.{kind}"]
        state[f"{block}fc2.{kind}"] = weights[f"{block}mlp.fc2.{kind}"]
    state[f"{block}ls1"] = weights[f"{block}ls1.gamma"]
    state[f"{block}ls2"] = weights[f"{block}ls2.gamma"]

torch.manual_seed(0)
teacher = Vit(width, heads, depth, patch, scaled=True)
teacher.load_state_dict(state)
teacher.requires_grad_(False)
student = Vit(width, heads, depth // 2, patch, scaled=True)
parameters = weight_copy(teacher, student, rank)
optimizer = torch.optim.AdamW(parameters, lr=0, betas=(0.9, 0.95), weight_decay=0.05)


def views(name):
    return numpy.memmap(f"{folder}/{name}.bin", dtype=numpy.float32, mode="r").reshape(-1, 3, 224, 224)


def difference():
    held = views("held")
    sums = 0.0
    with torch.no_grad():
        for i in range(0, len(held), 20):
            pixels = torch.from_numpy(held[i : i + 20].copy())
            sums += float((student(pixels) - teacher(pixels)).abs().mean()) * len(pixels)
    return sums / len(held)


before = difference()
training = views("training")
seconds = 0.0
for i, rate in enumerate(plan["rates"]):
    pixels = torch.from_numpy(training[i * plan["batch"] : (i + 1) * plan["batch"]].copy())
    start = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = rate
    take_step(teacher, student, optimizer, pixels, dtype)
    seconds += time.perf_counter() - start
print(json.dumps({"seconds": seconds, "before": before, "difference": difference()}))
