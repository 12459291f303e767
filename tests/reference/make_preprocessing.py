# Images through Pillow's filters, timm's evaluation transforms and transformers' image processors.
# timm 1.0.31, torchvision 0.29, transformers 5.24 (Pillow's and torchvision's backends), Pillow 13.
# Run: python make_preprocessing.py OUT (OUT is preprocessing/ here)
import json, math, os, sys, tempfile

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from timm.data import create_transform, resolve_data_config
from transformers import AutoImageProcessor

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
random = np.random.default_rng(7)


def image(width, height):
    """Waves, an edge and noise: what filters tell apart."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([127 + 100 * np.sin(x / (3 + c) + y / (5 - c)) for c in range(3)], -1)
    waves[:, width // 3 :] = 255 - waves[:, width // 3 :]
    return np.clip(waves + random.normal(0, 25, waves.shape), 0, 255).astype(np.uint8)


images = [image(37, 53), image(95, 40), image(9, 11), image(24, 24)]
tensors = {f"image{i}": pixels for i, pixels in enumerate(images)}
pictures = [Image.fromarray(pixels) for pixels in images]

# Pillow: image, width, height, the box that is resized (left, top, right, bottom).
resizes = [
    (0, 20, 29, None), (0, 53, 7, None), (0, 5, 60, None), (0, 37, 53, None), (0, 1, 1, None),
    (1, 31, 17, None), (1, 13, 40, None), (2, 33, 21, None), (3, 12, 12, None), (1, 19, 23, (7, 3, 60, 38)),
]
for i, (which, width, height, box) in enumerate(resizes):
    source = pictures[which].crop(box) if box else pictures[which]
    for resample in range(6):
        tensors[f"resize.{i}.{resample}"] = np.asarray(source.resize((width, height), resample))

# timm: pretrained_cfg.
half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
small = {"input_size": [3, 12, 12]}
timm = [
    {**small},
    {**small, "crop_pct": 0.9, "interpolation": "bilinear", **half},
    {**small, "crop_pct": 1.0, "crop_mode": "squash"},
    {**small, "crop_pct": 0.8, "crop_mode": "squash", "interpolation": "lanczos"},
    {**small, "crop_pct": 1.0, "crop_mode": "border", **half},
    {**small, "crop_pct": 0.85, "crop_mode": "border"},
    {**small, "crop_pct": 1.3, "crop_mode": "border"},
    {**small, "crop_pct": 1.5},
    {**small, "crop_pct": 1.2, "crop_mode": "squash"},
    {**small, "interpolation": "nearest"},
    {**small, "interpolation": "box"},
    {**small, "interpolation": "hamming"},
    {**small, "crop_pct": None, "crop_mode": None, "mean": None, "std": None, "interpolation": None},
    {"input_size": [3, 13, 13], "crop_pct": 0.7, "test_input_size": [3, 16, 16], "test_crop_pct": 1.0},
]
for i, cfg in enumerate(timm):
    transform = create_transform(**resolve_data_config(pretrained_cfg=cfg, model=None))
    for which, picture in enumerate(pictures):
        tensors[f"timm.{i}.{which}"] = transform(picture).numpy()

# transformers: preprocessor_config.json, and model_type of config.json where it matters.
plain = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
processors = [
    {"image_processor_type": "ViTImageProcessor", "size": 12, **plain},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 12, "width": 12}, "resample": 0, **plain},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 12, "width": 12}, "resample": 1, **plain},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 12, "width": 12}, "resample": 4, **plain},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 12, "width": 12}, "resample": 5, **plain},
    {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 12, "width": 12}, "do_resize": True,
     "crop_size": None, "do_center_crop": None, "do_convert_rgb": None, "pad_size": None, "do_pad": None},
    {"feature_extractor_type": "DeiTFeatureExtractor", "size": 16, "crop_size": 12, "do_center_crop": True},
    {"image_processor_type": "DeiTImageProcessor", "size": 15, "crop_size": 12, **plain},
    {"image_processor_type": "DeiTImageProcessorFast", "size": {"height": 21, "width": 15}, "crop_size": 12},
    {"image_processor_type": "CLIPImageProcessor", "size": 12, "crop_size": 12},
    {"feature_extractor_type": "CLIPFeatureExtractor", "size": 15, "crop_size": 12, "resample": 3, **plain},
    {"image_processor_type": "CLIPImageProcessorFast", "size": [14, 18], "crop_size": [12, 12]},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 15}, "crop_size": {"height": 12, "width": 12}},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 15, "longest_edge": 20}, "crop_size": 12},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 9}, "crop_size": 12},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 16}, "crop_size": 12, "rescale_factor": 1 / 127.5,
     "image_mean": 1, "image_std": 1},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 16}, "crop_size": 12, "do_rescale": False,
     "image_mean": [127.5, 127.5, 127.5], "image_std": [127.5, 100, 50]},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 16}, "crop_size": 12, "do_normalize": False},
    {"image_processor_type": "BitImageProcessor", "do_resize": False, "crop_size": 12},
    {"image_processor_type": "SiglipImageProcessor", "size": {"height": 12, "width": 12}},
    {"image_processor_type": "SiglipImageProcessorFast", "size": {"height": 12, "width": 12}, "crop_size": None, "do_center_crop": None},
    {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 12, "width": 12}, "crop_size": None, "do_center_crop": None},
    {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 12}},
    {"image_processor_type": "ConvNextImageProcessor", "size": 12, "crop_pct": 0.7},
    {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 14}, "crop_size": 12},
    {"image_processor_type": "BeitImageProcessor", "size": 15, "do_center_crop": True, "crop_size": 12},
    {"image_processor_type": "SegformerImageProcessor", "size": {"height": 12, "width": 12}},
    {"image_processor_type": "MobileNetV1ImageProcessor", "size": {"shortest_edge": 17}, "crop_size": 12},
    {"model_type": "dinov2", "size": {"shortest_edge": 16}, "crop_size": 12},
    {"model_type": "vit", "size": 12},
    {"model_type": "siglip", "size": {"height": 12, "width": 12}},
]
with tempfile.TemporaryDirectory() as folder:
    for i, case in enumerate(processors):
        case = dict(case)
        model_type = case.pop("model_type", "vit")
        json.dump(case, open(f"{folder}/preprocessor_config.json", "w"))
        json.dump({"model_type": model_type}, open(f"{folder}/config.json", "w"))
        for backend in ["pil", "torchvision"]:
            # torch has no box and no hamming filter, and DINOv3 no backend but torchvision's.
            if backend == "torchvision" and case.get("resample") in [4, 5]:
                continue
            processor = AutoImageProcessor.from_pretrained(folder, backend=backend)
            for which, picture in enumerate(pictures[:3]):
                tensors[f"{processor.backend}.{i}.{which}"] = np.asarray(
                    processor(picture, return_tensors="pt").pixel_values[0], dtype=np.float32
                )

tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
save_file(tensors, f"{out}/expected.safetensors")
with open(f"{out}/cases.json", "w") as file:
    json.dump({"resizes": resizes, "timm": timm, "transformers": processors}, file, indent=1)
