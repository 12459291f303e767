# The weights of teachers/timm-vit and timm-vit-reg in other wrappers that people meet: PyTorch's format before 1.6, DINO's
# training checkpoint, DINOv2's own names in chunks of blocks, a non-contiguous tensor. Run: python make_torch_files.py OUT
import argparse, os, re, sys, torch
from safetensors.torch import load_file
out = sys.argv[1]; os.makedirs(out, exist_ok=True)
here = os.path.dirname(os.path.abspath(__file__))
w = load_file(f"{here}/teachers/timm-vit/model.safetensors")
torch.save({"state_dict": {f"module.{k}": v for k, v in w.items()}, "epoch": 7, "best": 0.5}, f"{out}/legacy.pth", _use_new_zipfile_serialization=False)
backbone = {f"module.backbone.{k}": v for k, v in w.items() if not k.startswith("head.")}
teacher = {f"backbone.{k}": v for k, v in w.items() if not k.startswith("head.")}
other = {k: torch.zeros_like(v) for k, v in backbone.items()}
head = {"head.mlp.0.weight": torch.randn(8, 32), "head.mlp.0.bias": torch.randn(8), "head.last_layer.weight_g": torch.ones(4, 1), "head.last_layer.weight_v": torch.randn(4, 8)}
torch.save({"student": other, "teacher": {**teacher, **head}, "epoch": 3, "args": argparse.Namespace(arch="vit_tiny", lr=0.1, dirs=["a", "b"])}, f"{out}/dino.pth")
r = load_file(f"{here}/teachers/timm-vit-reg/model.safetensors")
def rename(k):
    k = k.replace("reg_token", "register_tokens")
    return re.sub(r"^blocks\.(\d+)\.", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}.", k)
d = {rename(k): v for k, v in r.items() if not k.startswith("head.")}
d["mask_token"] = torch.zeros(1, 32)
# Registers have no position, the class token has: none here.
torch.save(d, f"{out}/dinov2.pth")
t = dict(w); t["blocks.0.mlp.fc1.weight"] = w["blocks.0.mlp.fc1.weight"].t().contiguous().t()
torch.save({"model": t, "optimizer": {"lr": 1e-3, "state": [1, 2, (3, None)]}}, f"{out}/strided.pth")
