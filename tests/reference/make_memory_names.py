# Names that weights have in transformers 5's memory (`model.state_dict()`), beside those in the files that it reads and
# writes: for each teacher here, which rows of which published weight each name holds. Run: python make_memory_names.py OUT
import json, os, sys
import torch
import transformers
from safetensors.torch import load_file

here = os.path.dirname(os.path.abspath(__file__))
folders = ["hf-vit", "hf-vit-classifier", "hf-vit-mae", "hf-deit", "hf-dinov2", "hf-dinov2-registers", "hf-clip-vision"] + [
    f"more-hf-{name}"
    for name in ["clip-projection", "clip-full", "siglip", "siglip-full", "ijepa", "dinov3", "dinov3-gated", "dinov3-no-registers", "dinov2-swiglu", "dinov2-registers-classifier", "deit-distilled-classifier"]
]
result = {}
for folder in folders:
    path = f"{here}/teachers/{folder}"
    config = transformers.AutoConfig.from_pretrained(path)
    model = getattr(transformers, config.architectures[0]).from_pretrained(path)
    published = load_file(f"{path}/model.safetensors")
    names = {}
    for name, tensor in model.state_dict().items():
        if tensor.numel() == 0:
            continue
        for candidate, whole in published.items():
            if whole.shape == tensor.shape and torch.equal(whole, tensor):
                names[name] = [candidate, 0, whole.shape[0] if whole.ndim else 1]
                break
            rows = tensor.shape[0] if tensor.ndim else 0
            starts = range(0, whole.shape[0], rows) if whole.ndim == tensor.ndim > 0 and whole.shape[0] > rows > 0 and whole.shape[1:] == tensor.shape[1:] else []
            start = next((s for s in starts if torch.equal(whole[s : s + rows], tensor)), None)
            if start is not None:
                names[name] = [candidate, start, start + rows]
                break
        else:
            raise SystemExit(f"{folder}: no published weight is {name}")
    result[folder] = names
    changed = sum(name != published_name for name, (published_name, _, _) in names.items())
    print(folder, len(names), "names,", changed, "changed")
with open(sys.argv[1], "w") as file:
    json.dump({"transformers": transformers.__version__, "names": result}, file, separators=(",", ":"))
