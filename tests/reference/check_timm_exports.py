# Loads what wecolora saved for timm (FOLDER/NAME/ours) with timm and prints, as JSON, by how much of the largest entry its
# features differ from those that the original gave (FOLDER/NAME/expected.safetensors).
# Run: python check_timm_exports.py FOLDER NAME ...
import json, os, sys
import timm, torch
from safetensors.torch import load_file

folder, *names = sys.argv[1:]
found = {}
for name in names:
    try:
        model = timm.create_model("local-dir:" + os.path.join(folder, name, "ours"), pretrained=True).eval()
        expected = load_file(os.path.join(folder, name, "expected.safetensors"))
        with torch.no_grad():
            features = model.forward_head(model.forward_features(expected["input"]), pre_logits=True)
        scale = expected["features"].abs().max()
        found[name] = ((features - expected["features"]).abs().max() / scale).item()
    except Exception as error:
        found[name] = str(error)[:400]
print(json.dumps(found))
