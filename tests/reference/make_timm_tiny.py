# Every vision transformer of timm's registry, tiny, with random weights, saved as timm saves models, and what it gives.
# Run: python make_timm_tiny.py OUT [--smallest] [architecture ...]; the models in timm/ are made with --smallest.
import json, os, sys
import torch
import timm
from safetensors.torch import save_file
from timm.models import _registry
from timm.models._hub import save_for_hf

MODULES = ("vision_transformer", "deit", "eva", "beit", "vision_transformer_hybrid", "vision_transformer_relpos",
           "vision_transformer_sam", "naflexvit")

def architectures():
    for name in timm.list_models():
        module = _registry._model_entrypoints[name].__module__
        if module.split(".")[-1] in MODULES:
            yield name

def randomise(model):
    for name, p in model.named_parameters():
        with torch.no_grad():
            if p.ndim >= 2:
                p.normal_(0, 0.6 / p.shape[-1] ** 0.5 if p.shape[-1] > 8 else 0.1)
            elif "norm" in name and name.endswith("weight"):
                p.normal_(1, 0.2)
            elif "gamma" in name:
                p.normal_(0.7, 0.3)
            else:
                p.normal_(0, 0.2)

# What the weights don't tell (heads, activations, epsilons, positions) stays the architecture's own.
def shrinkings(heads):
    small = dict(embed_dim=heads * (4 if smallest else 8), depth=1 if smallest else 2, num_classes=3)
    yield dict(**small, patch_size=4, img_size=16)
    yield dict(**small, patch_size=4, img_size=16, num_kv_heads=max(1, heads // 2))
    yield dict(**small, img_size=64)
    yield dict(depth=1, num_classes=3, img_size=64)
    yield dict(num_classes=3)

def headsOf(name):
    with torch.device("meta"):
        try:
            model = timm.create_model(name)
        except Exception:
            return 12
    for module in model.modules():
        if hasattr(module, "num_heads"):
            return module.num_heads
    return 12

def build(name):
    errors = []
    for kwargs in shrinkings(headsOf(name)):
        try:
            return timm.create_model(name, **kwargs), kwargs
        except Exception as error:
            errors.append(str(error))
    raise RuntimeError(f"{name}: {errors}")

def save(name, out):
    torch.manual_seed(sum(map(ord, name)))
    model, kwargs = build(name)
    randomise(model)
    model.eval()
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    save_for_hf(model, folder, safe_serialization=True)
    size = kwargs.get("img_size", model.pretrained_cfg["input_size"][-1])
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        tokens = model.forward_features(x)
        features = model.forward_head(tokens, pre_logits=True)
        logits = model.forward_head(tokens)
    if isinstance(tokens, torch.Tensor):
        save_file({"input": x, "tokens": tokens.contiguous(), "features": features.contiguous(), "logits": logits.contiguous()},
                  os.path.join(folder, "expected.safetensors"))
    for extra in ("pytorch_model.bin", "README.md"):
        if os.path.exists(os.path.join(folder, extra)):
            os.remove(os.path.join(folder, extra))

out, *rest = sys.argv[1:]
smallest = "--smallest" in rest
names = [name for name in rest if name != "--smallest"] or list(architectures())
for name in names:
    try:
        save(name, out)
    except Exception as error:
        print(f"{name}: {str(error)[:300]}", file=sys.stderr)
print(json.dumps(names))
