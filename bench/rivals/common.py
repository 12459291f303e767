"""What the scripts share: options, packages that may be missing, and the demo's teacher in transformers."""
import argparse
import importlib
import sys


def package(name, wanted):
    """The package `name`, or a message that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        sys.exit(f"{name} is not installed: run {sys.executable} -m pip install {wanted}")


def options(**more):
    """The options that bench/leaderboard/make.js gives, and those of one script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher", required=True, help="folder of a transformers model")
    parser.add_argument("--onnx", required=True, help="the teacher as an ONNX file in float32")
    parser.add_argument("--out", required=True, help="the ONNX file to write")
    parser.add_argument("--heads", type=int, required=True, help="heads that each attention keeps")
    parser.add_argument("--channels", type=int, required=True, help="channels that each MLP keeps")
    parser.add_argument("--images", help="a folder with the images that may be used")
    for name, settings in more.items():
        parser.add_argument(f"--{name}", **settings)
    return parser.parse_args()


def pixels_of(teacher, folder):
    """Preprocessed images `[n, 3, H, W]` of a folder, in the order of their names."""
    import pathlib

    transformers = package("transformers", "transformers")
    image_module = package("PIL.Image", "Pillow")
    processor = transformers.AutoImageProcessor.from_pretrained(teacher)
    images = []
    for path in sorted(pathlib.Path(folder).iterdir()):
        with image_module.open(path) as image:
            images.append(image.convert("RGB"))
    return processor(images, return_tensors="pt").pixel_values


def teacher_config(teacher):
    """config.json of a transformers model."""
    import json
    import pathlib

    return json.loads((pathlib.Path(teacher) / "config.json").read_text())


def load_teacher(teacher):
    """The teacher as transformers loads it, in float32."""
    torch = package("torch", "torch")
    transformers = package("transformers", "transformers")
    return transformers.AutoModelForImageClassification.from_pretrained(
        teacher, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def export_onnx(model, path, free_batch=True):
    """Writes a DINOv2 with its head as an ONNX file with the outputs of ours: `logits` and `last_hidden_state`."""
    torch = package("torch", "torch")

    class Outputs(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, pixel_values):
            tokens = self.inner.dinov2(pixel_values).last_hidden_state
            logits = self.inner.classifier(torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1))
            return logits, tokens

    size = model.config.image_size
    with torch.no_grad():
        torch.onnx.export(
            Outputs(model),
            (torch.randn(1, 3, size, size),),
            path,
            input_names=["pixel_values"],
            output_names=["logits", "last_hidden_state"],
            dynamic_axes={"pixel_values": {0: "batch_size"}} if free_batch else None,
            opset_version=17,
            dynamo=False,
        )
