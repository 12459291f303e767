# What timm's and transformers' own models give when their blocks merge tokens (ToMe, arXiv 2210.09461, section 3), written
# from the paper: loops over the images' tokens, one list of members for each merged token. For some of the teachers here.
# Run: python make_token_merging.py TEACHERS OUT
import json, os, sys
import torch
from safetensors.torch import load_file, save_file

teachers, out = sys.argv[1:]
# Tokens merged away in each block; 16 patches, 17 to 20 tokens.
schedules = {
    "timm-vit": ([3, 0, 4, 2, 0, 1], "timm"),
    "timm-vit-reg": ([4, 3, 0, 2, 1, 0], "timm"),
    "more-timm-avg": ([8, 0, 3, 0, 1, 0, 1], "timm"),
    "more-timm-map": ([5, 3, 2, 1, 0, 1, 0], "timm"),
    "more-timm-distilled": ([3, 3, 3, 0, 2, 0, 0], "timm"),
    "more-hf-dinov2-swiglu": ([5, 4, 2], "transformers"),
    "more-hf-dinov3": ([5, 3, 2], "transformers"),
    "more-hf-clip-projection": ([4, 0, 5], "transformers"),
    "more-hf-siglip": ([5, 3, 0], "transformers"),
    "fewer-hf-vit": ([4, 0, 2], "transformers"),
}

class Merging:
    """The state of one forward pass: which of the image's tokens each token stands for, for each image."""
    def __init__(self, counts, prefix):
        self.counts, self.prefix, self.members = counts, prefix, None
    def begin(self, x):
        self.members = [[[n] for n in range(x.shape[1])] for _ in range(x.shape[0])]
    def bias(self):
        return torch.tensor([[len(m) for m in image] for image in self.members], dtype=torch.float64).log()[:, None, None, :]
    def groups(self, keys, count):
        """Old tokens that each new token is made of, for one image's keys [N, d]."""
        keys = keys / keys.norm(dim=-1, keepdim=True)
        places = range(self.prefix, len(keys))
        sources, destinations = [n for n in places if n % 2 == 0], [n for n in places if n % 2 == 1]
        scores = keys[sources] @ keys[destinations].T
        best, to = scores.max(dim=1)
        order = sorted(range(len(sources)), key=lambda i: -best[i].item())
        left = sorted(order[count:]) if self.prefix else order[count:]
        joined = [[d] for d in destinations]
        for i in order[:count]: joined[to[i]].append(sources[i])
        return [[n] for n in range(self.prefix)] + [[sources[i]] for i in left] + joined
    def merge(self, keys, count, *values):
        """Values [B, N, D], merged as means over the image's tokens that each stands for."""
        results = [[] for _ in values]
        for b, image in enumerate(self.members):
            groups = self.groups(keys[b], count)
            for result, value in zip(results, values):
                result.append(torch.stack([sum(len(image[n]) * value[b, n] for n in g) / sum(len(image[n]) for n in g) for g in groups]))
            self.members[b] = [[n for old in g for n in image[old]] for g in groups]
        return [torch.stack(r) for r in results]
    def unmerge(self, x):
        whole = torch.empty(x.shape[0], sum(map(len, self.members[0])), x.shape[2], dtype=x.dtype)
        for b, image in enumerate(self.members):
            for m, members in enumerate(image): whole[b, members] = x[b, m]
        return whole

def attend(q, k, v, bias):
    return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias).softmax(-1) @ v

def timm_model(folder, counts):
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.deit import VisionTransformerDistilled
    config = json.load(open(f"{folder}/config.json"))
    kind = VisionTransformerDistilled if "distilled" in config["architecture"] else VisionTransformer
    model = kind(**config["model_args"]).double().eval()
    model.load_state_dict({k: v.double() for k, v in load_file(f"{folder}/model.safetensors").items()})
    state = Merging(counts, model.num_prefix_tokens)
    seen = {}
    def forward(block, i, x):
        if i == 0: state.begin(x)
        a, y = block.attn, block.norm1(x)
        b, n, _ = y.shape
        q, k, v = a.qkv(y).reshape(b, n, 3, a.num_heads, a.head_dim).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v, state.bias()).transpose(1, 2).reshape(b, n, -1)
        x = x + block.ls1(a.proj(mixed))
        if counts[i]: (x,) = state.merge(k.mean(1), counts[i], x)
        x = x + block.ls2(block.mlp(block.norm2(x)))
        seen[f"blocks.{i + 1}"] = state.unmerge(x)
        return x
    for i, block in enumerate(model.blocks): block.forward = lambda x, *_, i=i, block=block, **__: forward(block, i, x)
    def run(x):
        features = model.forward_features(x)
        sizes = torch.tensor([[len(m) for m in image] for image in state.members], dtype=torch.float64)
        # timm pools without knowing of sizes: pooled over all tokens again, which is the same as by size.
        whole = state.unmerge(features)
        return {**seen, "normed": whole, "logits": model.forward_head(whole), "size": sizes}
    return run

def transformers_model(folder, counts):
    import transformers
    from transformers import AttentionInterface
    config = json.load(open(f"{folder}/config.json"))
    model = getattr(transformers, config["architectures"][0]).from_pretrained(folder).double().eval()
    clip = config["model_type"] in ("clip_vision_model", "siglip_vision_model")
    prefix = {"siglip_vision_model": 0}.get(config["model_type"], 1) + config.get("num_register_tokens", 0)
    state, seen, keys = Merging(counts, prefix), {}, {}
    def attention(module, q, k, v, *_, **__):
        keys["last"] = k.mean(1)
        return attend(q, k, v, state.bias()).transpose(1, 2).contiguous(), None
    AttentionInterface.register("merging", attention)
    model.set_attn_implementation("merging")
    tables = {}
    def forward(layer, i, x, rotary):
        if i == 0: state.begin(x); tables["now"] = rotary
        find = lambda *names: next((getattr(layer, n) for n in names if hasattr(layer, n)), lambda value: value)
        attn = find("attention", "self_attn")
        more = {} if rotary is None else {"position_embeddings": tables["now"]}
        if clip: more["attention_mask"] = None
        y = attn(find("norm1", "layer_norm1", "layernorm_before")(x), **more)
        x = x + find("layer_scale1")(y[0] if isinstance(y, tuple) else y)
        if counts[i]:
            if rotary is None: (x,) = state.merge(keys["last"], counts[i], x)
            else:
                # Learned tokens are turned by nothing.
                whole = [torch.cat([torch.full((x.shape[0], prefix, t.shape[-1]), float(one), dtype=t.dtype), t.reshape(-1, *t.shape[-2:]).expand(x.shape[0], -1, -1)], 1) for t, one in zip(tables["now"], (1, 0))]
                x, cos, sin = state.merge(keys["last"], counts[i], x, *whole)
                tables["now"] = (cos[:, None, prefix:], sin[:, None, prefix:])
        y = find("norm2", "layer_norm2", "layernorm_after")(x)
        x = x + find("layer_scale2")(layer.mlp(y))
        seen[f"hidden_states.{i + 1}"] = state.unmerge(x)
        return x
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    for i, layer in enumerate(layers):
        layer.forward = lambda x, *a, i=i, layer=layer, position_embeddings=None, **__: forward(layer, i, x, position_embeddings)
    # What stands behind the blocks sees all tokens again.
    layers[-1].register_forward_hook(lambda *_: state.unmerge(_[2]))
    def run(x):
        o = model(x)
        sizes = torch.tensor([[len(m) for m in image] for image in state.members], dtype=torch.float64)
        named = {k: o[k] for k in ("last_hidden_state", "pooler_output", "image_embeds") if o.get(k) is not None}
        return {**seen, **named, "size": sizes}
    return run

os.makedirs(out, exist_ok=True)
for name, (counts, library) in schedules.items():
    folder = f"{teachers}/{name}"
    x = load_file(f"{folder}/expected.safetensors")["input"][:2].double()
    run = (timm_model if library == "timm" else transformers_model)(folder, counts)
    with torch.no_grad(): r = run(x)
    r["merging"] = torch.tensor(counts)
    save_file({k: (v.float() if v.is_floating_point() else v).contiguous() for k, v in r.items()}, f"{out}/{name}.safetensors")
    print(name, r["size"].shape, r["size"].max().item())
