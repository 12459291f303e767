# A tiny timm ViT's weights beside, inside and behind what training scripts save: one file per kind, each with the same
# weights, and what timm gives for them. Run: python make_checkpoints.py OUT
import argparse, collections, dataclasses, datetime, decimal, enum, fractions, functools, os, pathlib, random, sys, types, uuid
import numpy as np
import timm
import torch
from safetensors.torch import save_file

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
torch.manual_seed(11)


def vit():
    model = timm.create_model("vit_tiny_patch16_224", img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=1, mlp_ratio=2, num_classes=0)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.4)
    return model.eval()


model, other = vit(), vit()
w, o = model.state_dict(), other.state_dict()
x = torch.randn(2, 3, 8, 8)
with torch.no_grad():
    save_file({"input": x, "normed": model.forward_features(x)}, f"{out}/expected.safetensors")


# Classes of a program that readers don't have.
module = types.ModuleType("someones_project")
sys.modules["someones_project"] = module


def of_project(cls):
    cls.__module__ = "someones_project"
    cls.__qualname__ = cls.__name__
    setattr(module, cls.__name__, cls)
    return cls


@of_project
class Color(enum.Enum):
    RED = "red"


@of_project
@dataclasses.dataclass
class Settings:
    lr: float = 0.1
    names: list = dataclasses.field(default_factory=lambda: ["a", "b"])


@of_project
class Config(dict):
    pass


@of_project
class History(list):
    pass


@of_project
class Slots:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, [2]


@of_project
class WithNew:
    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (1,), {"key": 2}


@of_project
class SelfMade:
    def __reduce__(self):
        return (SelfMade, (), {"state": 3}, iter([1, 2]), iter([("k", "v")]))

    def append(self, item):
        pass

    def extend(self, items):
        pass

    def __setitem__(self, key, value):
        pass


Point = of_project(collections.namedtuple("Point", "x y"))


def some_function():
    pass


some_function.__module__, some_function.__qualname__ = "someones_project", "some_function"
module.some_function = some_function

python = {
    "set": {1, "a", (2, 3)},
    "frozenset": frozenset([4]),
    "counter": collections.Counter("hello"),
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(list, a=[1]),
    "deque": collections.deque([1, 2], maxlen=4),
    "slice": slice(1, 2, None),
    "range": range(5),
    "long": 10**300,
    "negative": -(2**70),
    "longest": 1 << 20000,
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"abc"),
    "complex": 1 + 2j,
    "ellipsis": ...,
    "not implemented": NotImplemented,
    "type": int,
    "datetime": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    "timedelta": datetime.timedelta(days=1),
    "path": pathlib.PurePosixPath("/a/b"),
    "windows path": pathlib.PureWindowsPath("c:/a"),
    "namespace": argparse.Namespace(arch="vit", lr=0.1),
    "simple namespace": types.SimpleNamespace(a=1),
    "decimal": decimal.Decimal("1.5"),
    "fraction": fractions.Fraction(1, 3),
    "uuid": uuid.UUID(int=5),
    "random state": random.Random(1).getstate(),
    "partial": functools.partial(int, base=2),
    "builtin function": len,
    "bound method": [].append,
}
numbers = {
    "array": np.arange(4.0),
    "fortran": np.asfortranarray(np.ones((2, 3), np.float32)),
    "objects": np.array([{"a": 1}, None], dtype=object),
    "records": np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
    "scalar": np.float64(0.5),
    "integer": np.int64(3),
    "bool": np.bool_(True),
    "text": np.str_("a"),
    "dtype": np.dtype("float32"),
    "random state": np.random.RandomState(1).get_state(),
    "generator": np.random.default_rng(1),
}
torchs = {
    "size": torch.Size([1, 2]),
    "dtype": torch.float16,
    "device": torch.device("cuda:1"),
    "finfo": torch.float32,
    "untyped": torch.UntypedStorage(5),
    "typed": torch.arange(3.0).storage(),
    "rng": torch.get_rng_state(),
}
kinds = {
    name: torch.zeros(3, dtype=getattr(torch, name))
    for name in ["int16", "uint16", "uint32", "uint64", "complex64", "complex128", "complex32", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
    if hasattr(torch, name)
}
with_state = torch.nn.Parameter(torch.ones(2))
with_state.tag = "frozen"


class Sub(torch.Tensor):
    pass


of_project(Sub)
tensors = {
    "expanded": torch.zeros(1).expand(1000),
    "sparse": torch.eye(3).to_sparse(),
    "csr": torch.eye(3).to_sparse_csr(),
    "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "meta": torch.zeros(2, device="meta"),
    "subclass": torch.ones(2).as_subclass(Sub),
    "parameter with state": with_state,
    "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "scalar": torch.tensor(3.5),
    "transposed": torch.ones(2, 3).t(),
}
classes = {
    "enum": Color.RED,
    "dataclass": Settings(),
    "dict": Config(a=1),
    "list": History([1, 2]),
    "slots": Slots(),
    "new": WithNew(),
    "reduce": SelfMade(),
    "named tuple": Point(1, 2),
    "function": some_function,
    "class": Color,
    "module": torch.nn.Linear(2, 2),
    "optimizer": torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1),
}


def save(name, value, **options):
    torch.save(value, f"{out}/{name}", **options)


for name, extra in dict(python=python, numpy=numbers, torch=torchs, types=kinds, tensors=tensors, classes=classes).items():
    save(f"beside-{name}.pth", {**{f"extra {k}": v for k, v in extra.items()}, "model": w})
for protocol in [3, 4, 5]:
    save(f"protocol-{protocol}.pth", {"extra": python if protocol > 3 else {}, "model": w}, pickle_protocol=protocol)
old = dict(_use_new_zipfile_serialization=False)
save("old-lists.pth", {"history": [torch.ones(5), [torch.zeros(7, dtype=torch.int64)]], "types": [torch.ones(3, dtype=torch.int16), torch.ones(3, dtype=torch.complex64)], "args": Settings(), "model": w}, **old)
save("old-protocol-4.pth", {"model": w, "python": python}, pickle_protocol=4, **old)
# The whole module, class and all.
save("whole-module.pth", model)
save("dict-subclass.pth", Config(epoch=3, model=Config(w)))
# Wrappers, and what lies beside the weights.
optimizer = torch.optim.AdamW(model.parameters())
model(x).sum().backward()
optimizer.step()
model.load_state_dict(w := {k: v.clone() for k, v in torch.load(f"{out}/protocol-3.pth", weights_only=False)["model"].items()})
save("best-acc1.pth", {"best_acc1": torch.tensor(71.5), "epoch": 3, "state_dict": {f"module.{k}": v for k, v in w.items()}})
save("loss-first.pth", {"loss": torch.ones(4), "rng_state": torch.get_rng_state(), "model": w})
save("optimizer-first.pth", {"optimizer_state_dict": optimizer.state_dict(), "model_state_dict": w})
save("lightning.ckpt", {"epoch": 1, "pytorch-lightning_version": "2.4.0", "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}}, "optimizer_states": [optimizer.state_dict()], "state_dict": {f"model.{k}": v for k, v in w.items()} | {"criterion.weight": torch.ones(5)}, "loops": {}, "hyper_parameters": Settings()})
save("mp_rank_00_model_states.pt", {"module": w, "buffer_names": [], "optimizer": None, "param_shapes": [collections.OrderedDict((k, v.shape) for k, v in w.items())], "ds_config": {"zero": 1}, "ds_version": "0.15"})
save("timm-ema.pth.tar", {"epoch": 1, "arch": "vit", "state_dict": o, "optimizer": optimizer.state_dict(), "args": argparse.Namespace(lr=0.1), "state_dict_ema": w})
save("model-ema.pth", {"model": o, "model_ema": w, "scaler": {"scale": 65536.0}})
save("student-teacher.pth", {**{f"student.backbone.{k}": v for k, v in o.items()}, **{f"teacher.backbone.{k}": v for k, v in w.items()}, "student.head.weight": torch.ones(3, 8)})
save("list-of-models.pth", {"models": [w]})
