# Transforms of the paper's protocols through torchvision on Pillow images, at the image size 32.
# torchvision 0.29, Pillow 13. Run: python make_protocols.py protocols.safetensors
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from torchvision import transforms
from torchvision.transforms import functional as F

random = np.random.default_rng(5)


def image(width, height):
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([127 + 100 * np.sin(x / (3 + c) + y / (5 - c)) for c in range(3)], -1)
    return np.clip(waves + random.normal(0, 25, waves.shape), 0, 255).astype(np.uint8)


def grey(value):
    return [value] * 3


tensors = {"image": image(50, 43)}
picture = Image.fromarray(tensors["image"])

imagenet = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
resisc = transforms.Normalize([0.3684, 0.3813, 0.3439], [0.1999, 0.1814, 0.1808])
crop = [
    transforms.Resize(36, interpolation=transforms.InterpolationMode.BICUBIC),
    transforms.CenterCrop(32),
    transforms.ToTensor(),
]
both = [transforms.Resize((32, 32)), transforms.ToTensor()]
views = {
    "imagenet": [*crop, imagenet],
    "inaturalist2019": [*crop, imagenet],
    "cifar100": [*crop, imagenet],
    "resisc45": [*both, resisc],
    "chestxray14": [*both, transforms.Normalize(grey(0.5057), grey(0.2508))],
}
for name, steps in views.items():
    tensors[f"view.{name}"] = transforms.Compose(steps)(picture).numpy()

# Factors inside and outside of ColorJitter's 0.8 to 1.2, and those that Pillow takes a short way for.
factors = [0.0, 0.3, 0.8, 0.87654321, 0.999, 1.0, 1.1111111, 1.2, 2.5]
tensors["factors"] = np.array(factors, np.float64)
for i, factor in enumerate(factors):
    tensors[f"brightness.{i}"] = np.asarray(F.adjust_brightness(picture, factor))
    tensors[f"contrast.{i}"] = np.asarray(F.adjust_contrast(picture, factor))
dark = Image.fromarray((tensors["image"] // 8).astype(np.uint8))
tensors["both"] = np.asarray(F.adjust_contrast(F.adjust_brightness(dark, 1.13), 0.91))
tensors["dark"] = np.asarray(dark)
save_file(tensors, sys.argv[1])
