"""onnxsim (PyPI) on the teacher's ONNX file: simplified alone, with MLP channels pruned, or with 4-bit weights."""
from common import export_onnx, load_teacher, options, package, pixels_of, teacher_config

kinds = ["simplify", "magnitude", "wanda", "matmul-4bits"]
given = options(kind={"choices": kinds, "required": True})
onnx = package("onnx", "onnx")
onnxsim = package("onnxsim", "onnxsim")

config = teacher_config(given.teacher)
width, heads = config["hidden_size"], config["num_attention_heads"]
all_channels = width * config["mlp_ratio"]
pruning = given.kind in ("magnitude", "wanda")

path = given.onnx
if pruning:
    # onnxsim 0.8 finds nothing to prune in our graph; in PyTorch's for one image it finds the MLPs, but no heads. So as many weights go from MLPs
    # as are to go from both: a head has 4 * width * (width / heads) of them, a channel 2 * width.
    path = f"{given.out}.teacher.onnx"
    export_onnx(load_teacher(given.teacher), path, free_batch=False)
from_heads = (heads - given.heads) * 2 * (width // heads)
sparsity = 1 - (given.channels - from_heads) / all_channels

model, checked = onnxsim.simplify(path)
if not checked:
    raise SystemExit("onnxsim's own check of the simplified model failed")
before = sum(len(t.raw_data) for t in model.graph.initializer)
if given.kind == "magnitude":
    model = onnxsim.apply_structured_pruning(model, sparsity=sparsity)
elif given.kind == "wanda":
    if given.images is None:
        raise SystemExit("--kind wanda needs --images")
    pixels = pixels_of(given.teacher, given.images).numpy()
    data = [{"pixel_values": pixels[i : i + 1]} for i in range(len(pixels))]
    model = onnxsim.apply_structured_wanda_pruning(model, calibration_data=data, sparsity=sparsity)
elif given.kind == "matmul-4bits":
    model = onnxsim.quantize_weight_only_matmul_nbits(model)
after = sum(len(t.raw_data) for t in model.graph.initializer)
print(f"weights: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")
if pruning and after > 0.75 * before:
    raise SystemExit("onnxsim found too few channels that it can prune in this graph")
onnx.save(model, given.out)
