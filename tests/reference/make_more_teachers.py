# Makes the teachers in this folder that `tests/reference/README.md` lists under "teachers-more": one small random model
# per layout, saved by transformers, with what each layer gives. Run: python make_more_teachers.py OUT
import json, os, sys
import torch
from safetensors.torch import save_file
from transformers import (AutoConfig, CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection, DeiTConfig,
    DeiTForImageClassificationWithTeacher, Dinov2WithRegistersConfig, Dinov2WithRegistersForImageClassification,
    DINOv3ViTConfig, DINOv3ViTModel, IJepaConfig, IJepaModel, SiglipVisionConfig, SiglipVisionModel, SiglipConfig, SiglipModel,
    Dinov2Config, Dinov2Model, CLIPForImageClassification, SiglipForImageClassification, MetaClip2VisionConfig,
    MetaClip2VisionModel, ViTMSNConfig, ViTMSNModel)

out = sys.argv[1]
torch.manual_seed(7)
common = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, image_size=32, patch_size=8)
mlp = dict(intermediate_size=96)

def randomise(model):
    for name, p in model.named_parameters():
        with torch.no_grad():
            if p.ndim >= 2: p.normal_(0, 0.6 / p.shape[-1] ** 0.5 if p.shape[-1] > 8 else 0.1)
            elif "norm" in name and name.endswith("weight"): p.normal_(1, 0.2)
            elif "lambda" in name: p.normal_(0.7, 0.3)
            else: p.normal_(0, 0.2)

def save(name, model, run):
    randomise(model); model.eval()
    folder = os.path.join(out, name); model.save_pretrained(folder)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad(): r = run(model, x)
    r["input"] = x
    save_file({k: v.clone().contiguous() for k, v in r.items()}, os.path.join(folder, "expected.safetensors"))

def states(o, **more):
    r = {f"hidden_states.{i}": h for i, h in enumerate(o.hidden_states)}
    if getattr(o, "last_hidden_state", None) is not None: r["last_hidden_state"] = o.last_hidden_state
    if getattr(o, "pooler_output", None) is not None: r["pooler_output"] = o.pooler_output
    r.update(more); return r

def plain(m, x): return states(m(x, output_hidden_states=True))
def classifier(m, x):
    o = m(x, output_hidden_states=True); return states(o, logits=o.logits)
save("hf-siglip", SiglipVisionModel(SiglipVisionConfig(**common, **mlp)), plain)
save("hf-ijepa", IJepaModel(IJepaConfig(**common, **mlp)), plain)
save("hf-dinov3", DINOv3ViTModel(DINOv3ViTConfig(**common, **mlp, num_register_tokens=2)), plain)
save("hf-dinov3-gated", DINOv3ViTModel(DINOv3ViTConfig(**common, **mlp, num_register_tokens=2, use_gated_mlp=True, hidden_act="silu", key_bias=False)), plain)
save("hf-dinov2-registers-classifier", Dinov2WithRegistersForImageClassification(Dinov2WithRegistersConfig(**common, num_register_tokens=2, num_labels=5)), classifier)
save("hf-dinov2-swiglu", Dinov2Model(Dinov2Config(**common, use_swiglu_ffn=True)), plain)
save("hf-deit-distilled-classifier", DeiTForImageClassificationWithTeacher(DeiTConfig(**common, **mlp, num_labels=5)), classifier)
text = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=32, max_position_embeddings=8)
def tower(m, x):
    o = m.vision_model(x, output_hidden_states=True)
    r = states(o)
    if hasattr(m, "visual_projection"): r["image_embeds"] = m.visual_projection(o.pooler_output)
    return r
save("hf-clip-full", CLIPModel(CLIPConfig(text_config=text, vision_config=dict(**common, **mlp), projection_dim=24)), tower)
save("hf-siglip-full", SiglipModel(SiglipConfig(text_config=text, vision_config=dict(**common, **mlp))), tower)
def projected(m, x):
    o = m(x, output_hidden_states=True); return states(o, image_embeds=o.image_embeds)
save("hf-clip-projection", CLIPVisionModelWithProjection(CLIPVisionConfig(**common, **mlp, projection_dim=24, hidden_act="quick_gelu")), projected)
# Added later, with a seed of their own: classifiers on CLIP's and SigLIP's towers, and siblings of CLIP and ViT.
torch.manual_seed(11)
few = dict(vision_config=dict(**common, **mlp), num_labels=5)
def logits(m, x): return states(m.vision_model(x, output_hidden_states=True), logits=m(x).logits)
save("hf-clip-classifier", CLIPForImageClassification(CLIPConfig(text_config=text, **few)), logits)
save("hf-siglip-classifier", SiglipForImageClassification(SiglipConfig(text_config=text, **few)), logits)
save("hf-metaclip2", MetaClip2VisionModel(MetaClip2VisionConfig(**common, **mlp)), plain)
save("hf-msn", ViTMSNModel(ViTMSNConfig(**common, **mlp)), plain)
