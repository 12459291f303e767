# Makes the teachers "fewer-*" in this folder: models whose heads are fewer than their width has room for, by transformers 5
# (5.24 made them; 4 does not read head_dim). Run: python make_fewer_heads.py OUT
import os, sys
import torch
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2ForImageClassification, ViTConfig, ViTModel

out = sys.argv[1]
torch.manual_seed(8)
common = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=2, head_dim=16, image_size=32, patch_size=8)

for name, model in [
    ("fewer-hf-vit", ViTModel(ViTConfig(**common, intermediate_size=96))),
    ("fewer-hf-dinov2", Dinov2ForImageClassification(Dinov2Config(**common, mlp_ratio=2, num_labels=5))),
]:
    for key, p in model.named_parameters():
        with torch.no_grad():
            if p.ndim >= 2: p.normal_(0, 0.6 / p.shape[-1] ** 0.5 if p.shape[-1] > 8 else 0.1)
            elif "norm" in key and key.endswith("weight"): p.normal_(1, 0.2)
            elif "lambda" in key: p.normal_(0.7, 0.3)
            else: p.normal_(0, 0.2)
    model.eval()
    folder = os.path.join(out, name)
    model.save_pretrained(folder)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad(): o = model(x, output_hidden_states=True)
    found = {f"hidden_states.{i}": h for i, h in enumerate(o.hidden_states)}
    for key in ["last_hidden_state", "pooler_output", "logits"]:
        if getattr(o, key, None) is not None: found[key] = getattr(o, key)
    found["input"] = x
    save_file({k: v.clone().contiguous() for k, v in found.items()}, os.path.join(folder, "expected.safetensors"))
