# Vision transformers exported to ONNX as people do it: by PyTorch's older exporter (whose constants lose their names)
# and by the newer one, with and without something behind the backbone. Run: python make_onnx_teachers.py OUT
import os, sys, torch, torch.nn as nn
from safetensors.torch import save_file
from transformers import ViTConfig, ViTModel, ViTForImageClassification, Dinov2Config, Dinov2Model, CLIPVisionConfig, CLIPVisionModel
out = sys.argv[1]; os.makedirs(out, exist_ok=True)
torch.manual_seed(11)
common = dict(hidden_size=48, num_hidden_layers=4, num_attention_heads=3, image_size=32, patch_size=8, attn_implementation="eager")
def randomise(m):
    for n, p in m.named_parameters():
        with torch.no_grad():
            if p.ndim >= 2: p.normal_(0, 0.5 / p.shape[-1] ** 0.5 if p.shape[-1] > 8 else 0.1)
            elif "norm" in n and n.endswith("weight"): p.normal_(1, 0.2)
            elif "lambda" in n: p.normal_(0.7, 0.3)
            else: p.normal_(0, 0.2)
    return m.eval()
class Tokens(nn.Module):
    def __init__(s, m): super().__init__(); s.m = m
    def forward(s, pixel_values): return s.m(pixel_values).last_hidden_state
class Logits(nn.Module):
    def __init__(s, m): super().__init__(); s.m = m
    def forward(s, pixel_values): return s.m(pixel_values).logits
class Depth(nn.Module):
    """A decoder over two blocks' patches, as depth and segmentation models have one."""
    def __init__(s, m):
        super().__init__(); s.m = m
        s.a = nn.Conv2d(48, 8, 1); s.b = nn.Conv2d(48, 8, 1); s.c = nn.Conv2d(8, 1, 3, padding=1)
    def forward(s, pixel_values):
        h = s.m(pixel_values, output_hidden_states=True).hidden_states
        grid = lambda t: t[:, 1:].transpose(1, 2).reshape(-1, 48, 4, 4)
        y = torch.relu(s.a(grid(h[2])) + s.b(grid(h[4])))
        return s.c(nn.functional.interpolate(y, scale_factor=2, mode="bilinear"))
class Plain(nn.Module):
    """timm's way: one joint qkv map."""
    class Block(nn.Module):
        def __init__(s, d, h):
            super().__init__(); s.h = h
            s.norm1 = nn.LayerNorm(d, eps=1e-6); s.qkv = nn.Linear(d, 3 * d); s.proj = nn.Linear(d, d)
            s.norm2 = nn.LayerNorm(d, eps=1e-6); s.fc1 = nn.Linear(d, 4 * d); s.fc2 = nn.Linear(4 * d, d)
        def forward(s, x):
            B, N, D = x.shape
            q, k, v = s.qkv(s.norm1(x)).reshape(B, N, 3, s.h, D // s.h).permute(2, 0, 3, 1, 4).unbind(0)
            a = ((q * (D // s.h) ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
            x = x + s.proj((a @ v).transpose(1, 2).reshape(B, N, D))
            return x + s.fc2(nn.functional.gelu(s.fc1(s.norm2(x))))
    def __init__(s, d=48, h=3, n=4):
        super().__init__()
        s.patch = nn.Conv2d(3, d, 8, 8); s.cls = nn.Parameter(torch.zeros(1, 1, d)); s.pos = nn.Parameter(torch.zeros(1, 17, d))
        s.blocks = nn.ModuleList([Plain.Block(d, h) for _ in range(n)]); s.norm = nn.LayerNorm(d, eps=1e-6); s.head = nn.Linear(d, 5)
    def forward(s, pixel_values):
        x = s.patch(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([s.cls.expand(x.shape[0], -1, -1), x], 1) + s.pos
        for b in s.blocks: x = b(x)
        return s.head(s.norm(x)[:, 0])
models = {
    "vit": Tokens(randomise(ViTModel(ViTConfig(**common, intermediate_size=96)))),
    "vit-classifier": Logits(randomise(ViTForImageClassification(ViTConfig(**common, intermediate_size=96, num_labels=5)))),
    "dinov2": Tokens(randomise(Dinov2Model(Dinov2Config(**common)))),
    "clip": Tokens(randomise(CLIPVisionModel(CLIPVisionConfig(**common, intermediate_size=96)))),
    "depth": randomise(Depth(ViTModel(ViTConfig(**common, intermediate_size=96)))),
    "plain": randomise(Plain()),
    # Fewer heads than the width has room for; made later, so that a new run draws other numbers for the others.
    "fewer": Tokens(randomise(ViTModel(ViTConfig(**{**common, "num_attention_heads": 2}, head_dim=16, intermediate_size=96)))),
}
x = torch.randn(2, 3, 32, 32)
for name, m in models.items():
    with torch.no_grad(): y = m(x)
    save_file({"input": x, "output": y.contiguous()}, f"{out}/{name}.expected.safetensors")
    torch.onnx.export(m, (x,), f"{out}/{name}.old.onnx", dynamo=False, opset_version=14, input_names=["pixel_values"], output_names=["output"], dynamic_axes={"pixel_values": {0: "batch"}})
    b = torch.export.Dim("batch", min=1, max=64)
    try: torch.onnx.export(m, (x,), f"{out}/{name}.new.onnx", dynamo=True, input_names=["pixel_values"], output_names=["output"], dynamic_shapes=({0: b},), external_data=False)
    except Exception as e: print(name, "new exporter:", str(e)[:150])
