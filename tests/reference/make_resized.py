# What each library gives for images of other sizes than its model was made for: the teachers in teachers/ as transformers
# and timm resample their positions, and DINOv2's own files as its authors do. The input is shared: sizes/input.
# Run: python make_resized.py TEACHERS OUT CLONE, with CLONE of github.com/facebookresearch/dinov2
import json, os, sys
import torch
from safetensors.torch import load_file, save_file
from transformers import (CLIPVisionModel, DeiTModel, Dinov2Model, Dinov2WithRegistersModel, IJepaModel, SiglipVisionModel,
    ViTMAEModel, ViTModel)
from timm.models.vision_transformer import VisionTransformer

teachers, out, clone = sys.argv[1:4]
sys.path.insert(0, clone)
os.environ["XFORMERS_DISABLED"] = "1"
from dinov2.models.vision_transformer import DinoVisionTransformer

torch.manual_seed(11)
# 32 pixels are what the teachers were made for; 40 keeps the scale of 8 pixels a patch odd.
sizes = (16, 24, 40, 72)
inputs = {size: torch.randn(1, 3, size, size) for size in sizes}
expected = {f"input.{size}": x for size, x in inputs.items()}

def last(model, **more):
    model.eval()
    return lambda x: model(x, **more).last_hidden_state

def mae(path):
    model = ViTMAEModel.from_pretrained(path).eval()
    model.config.mask_ratio = 0.0
    def run(x):
        patches = (x.shape[-1] // model.config.patch_size) ** 2
        # The order of the noise is the order of the patches.
        noise = torch.arange(patches, dtype=torch.float32)[None]
        return model(x, noise=noise, interpolate_pos_encoding=True).last_hidden_state
    return run

def transformers(cls, name, **more):
    return last(cls.from_pretrained(os.path.join(teachers, name)), **more)

interpolated = dict(interpolate_pos_encoding=True)
runs = {
    "hf-vit": transformers(ViTModel, "hf-vit", **interpolated),
    "hf-deit": transformers(DeiTModel, "hf-deit", **interpolated),
    "hf-vit-mae": mae(os.path.join(teachers, "hf-vit-mae")),
    "more-hf-ijepa": transformers(IJepaModel, "more-hf-ijepa", **interpolated),
    "hf-dinov2": transformers(Dinov2Model, "hf-dinov2"),
    "hf-dinov2-registers": transformers(Dinov2WithRegistersModel, "hf-dinov2-registers"),
    "hf-clip-vision": transformers(CLIPVisionModel, "hf-clip-vision", **interpolated),
    "more-hf-siglip": transformers(SiglipVisionModel, "more-hf-siglip", **interpolated),
}

def timm_run(name):
    config = json.load(open(os.path.join(teachers, name, "config.json")))
    weights = load_file(os.path.join(teachers, name, "model.safetensors"))
    def run(x):
        model = VisionTransformer(**config["model_args"])
        model.load_state_dict(weights)
        model.set_input_size(img_size=x.shape[-2:])
        return model.eval().forward_features(x)
    return run
for name in ("timm-vit", "timm-vit-reg"):
    runs[name] = timm_run(name)

def authors(name, registers, **more):
    model = DinoVisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, init_values=0.5, block_chunks=0,
        num_register_tokens=registers, **more)
    for key, p in model.named_parameters():
        with torch.no_grad():
            if p.ndim >= 2: p.normal_(0, 0.6 / p.shape[-1] ** 0.5)
            elif "norm" in key and key.endswith("weight"): p.normal_(1, 0.2)
            elif "gamma" in key: p.normal_(0.7, 0.3)
            else: p.normal_(0, 0.2)
    model.eval()
    torch.save(model.state_dict(), os.path.join(out, f"{name}.pth"))
    def run(x):
        given = model.forward_features(x)
        return torch.cat([given["x_norm_clstoken"][:, None], given["x_norm_regtokens"], given["x_norm_patchtokens"]], 1)
    return run
# As hub/backbones.py makes them.
runs["dinov2-authors"] = authors("dinov2-authors", 0, interpolate_offset=0.1)
runs["dinov2-authors-registers"] = authors("dinov2-authors-registers", 2, interpolate_antialias=True, interpolate_offset=0.0)

with torch.no_grad():
    for name, run in runs.items():
        for size, x in inputs.items():
            expected[f"{name}.{size}"] = run(x).contiguous()
save_file(expected, os.path.join(out, "expected.safetensors"))
