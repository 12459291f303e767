"""Features of images by folders of models, each with its own image processor.

Run: python run_loaders.py transformers|timm OUT IMAGE... -- FOLDER...
OUT becomes a JSON file: the library's version, and for each folder the features of each image.
"""

import json
import sys

import torch
from PIL import Image

library, out, *rest = sys.argv[1:]
split = rest.index("--")
images = [Image.open(path).convert("RGB") for path in rest[:split]]
folders = rest[split + 1 :]


def transformers_features(folder):
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    return [model(**processor(image, return_tensors="pt")).last_hidden_state for image in images]


def timm_features(folder):
    import timm
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    tokens = [model.forward_features(transform(image)[None]) for image in images]
    # The class token; DeiT's heads read two tokens, and timm's pooling gives their mean.
    if model.global_pool == "token":
        return [one[:, 0] for one in tokens]
    return [model.forward_head(one, pre_logits=True) for one in tokens]


if library == "transformers":
    from transformers import __version__

    run = transformers_features
else:
    from timm import __version__

    run = timm_features
with torch.no_grad():
    features = [[one.flatten().tolist() for one in run(folder)] for folder in folders]
with open(out, "w") as file:
    json.dump({"version": __version__, "features": features}, file)
