"""Torch-Pruning (PyPI torch-pruning) on a DINOv2 of transformers, to the shape of our students, without fine-tuning.

Taylor scores are taken from gradients of the squared distance between features of an image and of a crop of it: labels are not used.
"""
from common import export_onnx, load_teacher, options, package, pixels_of

given = options(criterion={"choices": ["magnitude", "taylor"], "required": True})
tp = package("torch_pruning", "torch-pruning")
torch = package("torch", "torch")

torch.manual_seed(0)
model = load_teacher(given.teacher)
config = model.config
heads = config.num_attention_heads
example = torch.randn(1, 3, config.image_size, config.image_size)

parts = ("q_proj", "k_proj", "v_proj")
attentions = [m for m in model.modules() if all(hasattr(m, part) for part in parts)]
maps = [getattr(m, part) for m in attentions for part in parts]
first_maps = [m for name, m in model.named_modules() if name.endswith("mlp.fc1")]
ratios = {m: 1 - given.heads / heads for m in maps}
ratios.update({m: 1 - given.channels / m.out_features for m in first_maps})

if given.criterion == "taylor":
    if given.images is None:
        raise SystemExit("--criterion taylor needs --images")
    pixels = pixels_of(given.teacher, given.images)
    importance = tp.importance.GroupTaylorImportance()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for batch in pixels.split(10):
        side = batch.shape[-1]
        low, high = side // 8, side - side // 8
        crop = torch.nn.functional.interpolate(batch[..., low:high, low:high], size=(side, side), mode="bilinear")
        with torch.no_grad():
            whole = model(batch, output_hidden_states=True).hidden_states[-1][:, 0]
        own = model(crop, output_hidden_states=True).hidden_states[-1][:, 0]
        (((own - whole) ** 2).sum() / len(pixels)).backward()
    for parameter in model.parameters():
        # The head and the mask token play no part in the loss.
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
else:
    importance = tp.importance.GroupMagnitudeImportance(p=2)

pruner = tp.pruner.BasePruner(
    model,
    example,
    importance=importance,
    pruning_ratio=0.0,
    pruning_ratio_dict=ratios,
    ignored_layers=[model.classifier],
    num_heads={m: heads for m in maps},
    prune_num_heads=True,
    prune_head_dims=False,
    head_pruning_ratio=1 - given.heads / heads,
    output_transform=lambda out: out.logits.sum(),
)
pruner.step()
for m in attentions:
    m.num_attention_heads = m.q_proj.out_features // m.head_dim
kept = {m.num_attention_heads for m in attentions}, {m.out_features for m in first_maps}
if kept != ({given.heads}, {given.channels}):
    raise SystemExit(f"Torch-Pruning kept heads and channels {kept}, not {given.heads} and {given.channels}")

export_onnx(model, given.out)
