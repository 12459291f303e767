# Writes src/models/layouts/timm-architectures.ts: what timm's registry says of each vision transformer that the shapes
# of its weights don't tell. Run: python make_timm_architectures.py > ../../src/models/layouts/timm-architectures.ts
import functools, json, sys
import timm
from timm.models import _registry

MODULES = ("vision_transformer", "deit", "eva", "beit", "vision_transformer_hybrid", "vision_transformer_relpos",
           "vision_transformer_sam", "naflexvit")
# Read off the weights' shapes, or without a meaning once a model is trained.
LEFT_OUT = {"embed_dim", "depth", "mlp_ratio", "init_values", "qkv_bias", "qkv_fused", "patch_size", "pretrained_filter_fn",
            "pretrained_strict", "feature_cfg", "weight_init", "fix_init", "pre_norm", "reg_tokens", "num_reg_tokens",
            "use_pre_transformer_norm", "use_post_transformer_norm", "use_fc_norm", "fc_norm", "final_norm", "class_token",
            "rope_rescale_coords", "cfg", "dynamic_img_size", "no_embed_class", "attn_pool_mlp_ratio", "attn_type",
            "use_abs_pos_emb", "swiglu_mlp", "swiglu_align_to"}
NAMES = {"SiLU": "silu", "GELU": "gelu"}

class Built(Exception):
    pass

def capture(cls, variant, pretrained, **kwargs):
    raise Built(cls, kwargs)

def arguments_of(kwargs):
    out = {}
    for key, value in kwargs.items():
        if key in LEFT_OUT:
            continue
        if isinstance(value, functools.partial):
            if "eps" in value.keywords:
                out["norm_eps"] = value.keywords["eps"]
            value = value.func
        if callable(value):
            value = value.__name__
        if key == "norm_layer" and value == "LayerNorm":
            continue
        if isinstance(value, (list, tuple)):
            value = list(value)
        assert value is None or isinstance(value, (bool, int, float, str, list)), (key, value)
        if key == "num_kv_heads":
            value = min(value)
        out[key] = NAMES.get(value, value) if isinstance(value, str) else value
    return out

found = {}
for name in timm.list_models():
    entry = _registry._model_entrypoints[name]
    module = sys.modules[entry.__module__]
    if module.__name__.split(".")[-1] not in MODULES:
        continue
    module.build_model_with_cfg = capture
    try:
        entry()
        raise AssertionError(name)
    except Built as built:
        cls, kwargs = built.args
        found[name] = (cls.__name__, arguments_of(kwargs) if cls.__name__ in ("VisionTransformer", "VisionTransformerDistilled", "Eva") else {})

former = {old: new.split(".")[0] for old, new in sorted(_registry._deprecated_models.items())
          if new and new.split(".")[0] in found and old != new.split(".")[0]}

def written(value):
    return json.dumps(value)

print(f"""// Vision transformers of timm {timm.__version__}: their class, and the arguments that the shapes of their weights don't tell.
// Written by tests/reference/make_timm_architectures.py; change nothing here by hand.

export type TimmArguments = Readonly<Record<string, unknown>>;

export const timmVersion = "{timm.__version__}";

/** By name: timm's class and the arguments that it is built with, where they are not the class's defaults. */
export const timmArchitectures: Readonly<Record<string, readonly [type: string, arguments: TimmArguments]>> = {{""")
for name, (cls, args) in found.items():
    body = ", ".join(f"{key}: {written(value)}" for key, value in args.items())
    print(f'  {name}: ["{cls}", {{ {body} }}],' if body else f'  {name}: ["{cls}", {{}}],')
print("""};

/** Names of former releases that timm still reads, and today's. */
export const formerTimmNames: Readonly<Record<string, string>> = {""")
for old, new in former.items():
    print(f'  {old}: "{new}",')
print("};")
