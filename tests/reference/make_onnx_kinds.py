# Small ONNX files of the kinds that exporters write: masked softmax, rotary positions, gated MLPs, decomposed activations, half
# precision, several ways to pool. `output` is what ONNX Runtime computes, not PyTorch, so that half precision is compared with itself.
# Run: python make_onnx_kinds.py OUT   (torch 2.14, transformers 5.24, timm 1.0.31, onnxruntime 1.32)
import os, sys, warnings
import numpy as np, onnx, onnxruntime as ort, timm, torch, torch.nn as nn, transformers as T
from onnxruntime.transformers.float16 import convert_float_to_float16
from safetensors.numpy import save_file
warnings.filterwarnings("ignore")
out = sys.argv[1]; os.makedirs(out, exist_ok=True)
size, common = 16, dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4)
small, in_timm = dict(**common, intermediate_size=32), dict(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2)

def randomise(m):
    torch.manual_seed(7)
    for n, p in m.named_parameters():
        with torch.no_grad():
            if p.ndim >= 2: p.normal_(0, 0.5 / p.shape[-1] ** 0.5 if p.shape[-1] > 4 else 0.1)
            elif "norm" in n and n.endswith("weight"): p.normal_(1, 0.2)
            elif "lambda" in n or "gamma" in n: p.normal_(0.7, 0.3)
            else: p.normal_(0, 0.2)
    return m.eval()

class Part(nn.Module):
    """One output of a model: an attribute's name, or a method of timm's."""
    def __init__(s, m, part): super().__init__(); s.m = m; s.part = part
    def forward(s, pixel_values):
        if hasattr(s.m, s.part): return getattr(s.m, s.part)(pixel_values)
        return getattr(s.m(pixel_values), s.part)

def hf(cls, config, part="last_hidden_state"): return Part(randomise(cls(config)), part)
def tm(name, part, **kw): return Part(randomise(timm.create_model(name, pretrained=False, **{**in_timm, **kw})), part)
kinds = {
    "vit": (hf(T.ViTModel, T.ViTConfig(**small)), "dynamo"),
    "vit-any-size": (hf(T.ViTModel, T.ViTConfig(**small)), "any"),
    "vit-half": (hf(T.ViTModel, T.ViTConfig(**small)), "half"),
    "dinov2-swiglu": (hf(T.Dinov2Model, T.Dinov2Config(**common, use_swiglu_ffn=True)), "dynamo"),
    "dinov2-registers": (hf(T.Dinov2WithRegistersModel, T.Dinov2WithRegistersConfig(**common, mlp_ratio=2, num_register_tokens=2)), "dynamo"),
    "dinov3": (hf(T.DINOv3ViTModel, T.DINOv3ViTConfig(**small, num_register_tokens=2)), "dynamo"),
    "dinov3-script": (hf(T.DINOv3ViTModel, T.DINOv3ViTConfig(**small, num_register_tokens=2)), "script"),
    "dinov3-gated": (hf(T.DINOv3ViTModel, T.DINOv3ViTConfig(**small, num_register_tokens=0, use_gated_mlp=True, hidden_act="silu")), "dynamo"),
    "dinov3-half": (hf(T.DINOv3ViTModel, T.DINOv3ViTConfig(**small, num_register_tokens=2)), "half"),
    "dinov3-timm": (tm("vit_small_patch16_dinov3", "forward_features", num_classes=0, mlp_ratio=2), "dynamo"),
    "siglip": (hf(T.SiglipVisionModel, T.SiglipVisionConfig(**small)), "dynamo"),
    "clip-pooled": (hf(T.CLIPVisionModel, T.CLIPVisionConfig(**small), "pooler_output"), "script"),
    "mean-pooled": (tm("vit_little_patch16_reg4_gap_256", "forward", num_classes=0, mlp_ratio=2), "dynamo"),
    "mean-classifier": (tm("vit_base_patch16_224", "forward", num_classes=5, mlp_ratio=2, global_pool="avg", class_token=False, fc_norm=True), "script"),
    "refused-attention-pooled": (tm("vit_base_patch16_siglip_224", "forward", num_classes=0, mlp_ratio=2), "dynamo"),
    "refused-eva02": (tm("eva02_tiny_patch14_224", "forward_features", num_classes=0), "dynamo"),
    "refused-qk-norm": (tm("vit_little_patch16_reg4_gap_256", "forward_features", num_classes=0, qk_norm=True, mlp_ratio=2), "dynamo"),
    "refused-relative": (tm("vit_relpos_base_patch16_clsgap_224", "forward_features", num_classes=0, mlp_ratio=2), "script"),
}
torch.manual_seed(3)
x = torch.randn(2, 3, size, size)
save_file({"pixels": x.numpy()}, f"{out}/pixels.safetensors")
for name, (model, how) in kinds.items():
    if len(sys.argv) > 2 and name not in sys.argv[2:]: continue
    path, names = f"{out}/{name}.onnx", dict(input_names=["pixel_values"], output_names=["output"])
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        if how == "dynamo": torch.onnx.export(model, (x,), path, dynamo=True, external_data=False, dynamic_shapes=({0: batch},), **names)
        elif how == "any":
            auto = torch.export.Dim.AUTO
            torch.onnx.export(model, (x,), path, dynamo=True, external_data=False, dynamic_shapes=({0: auto, 2: auto, 3: auto},), **names)
        else: torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17, dynamic_axes={"pixel_values": {0: "batch"}}, **names)
    proto = onnx.load(path)
    if how == "half": proto = convert_float_to_float16(proto, keep_io_types=True)
    # Stack traces and types of inner values are most of a small file.
    for thing in [proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        if thing.DESCRIPTOR.fields_by_name.get("metadata_props"): del thing.metadata_props[:]
        if thing.DESCRIPTOR.fields_by_name.get("doc_string"): thing.ClearField("doc_string")
    del proto.graph.value_info[:]
    onnx.save(proto, path)
    output = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["output"], {"pixel_values": x.numpy()})[0]
    save_file({"output": np.ascontiguousarray(output)}, f"{out}/{name}.safetensors")
    print(name, output.shape, os.path.getsize(path), flush=True)
