"""onnxsim (PyPI) on the teacher's ONNX file: simplified alone, with heads and MLP channels pruned, or with 4-bit weights."""
from common import options, package, teacher_config

kinds = ["simplify", "magnitude", "wanda", "matmul-4bits"]
given = options(kind={"choices": kinds, "required": True})
onnx = package("onnx", "onnx")
onnxsim = package("onnxsim", "onnxsim")

# onnxsim's pruning wants shares of heads and channels, not counts.
config = teacher_config(given.teacher)
heads = 1 - given.heads / config["num_attention_heads"]
channels = 1 - given.channels / (config["hidden_size"] * config["mlp_ratio"])

model, checked = onnxsim.simplify(given.onnx)
if not checked:
    raise SystemExit("onnxsim's own check of the simplified model failed")
before = sum(len(t.raw_data) for t in model.graph.initializer)
if given.kind == "magnitude":
    model = onnxsim.apply_attention_head_pruning(model, sparsity=heads)
    model = onnxsim.apply_structured_pruning(model, sparsity=channels)
elif given.kind == "wanda":
    if given.images is None:
        raise SystemExit("--kind wanda needs --images")
    from common import pixels_of

    pixels = pixels_of(given.teacher, given.images).numpy()
    data = [{"pixel_values": pixels[i : i + 8]} for i in range(0, len(pixels), 8)]
    model = onnxsim.apply_attention_head_wanda_pruning(model, calibration_data=data, sparsity=heads)
    model = onnxsim.apply_structured_wanda_pruning(model, calibration_data=data, sparsity=channels)
elif given.kind == "matmul-4bits":
    model = onnxsim.quantize_weight_only_matmul_nbits(model)
after = sum(len(t.raw_data) for t in model.graph.initializer)
print(f"weights: {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")
if given.kind in ("magnitude", "wanda") and after > 0.75 * before:
    raise SystemExit("onnxsim found too few heads and channels that it can prune in this graph")
onnx.save(model, given.out)
