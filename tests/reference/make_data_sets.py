"""Writes small data sets in the formats in which the published ones are distributed, and expected.json beside them.

    python make_data_sets.py FOLDER   (numpy, pillow, pyarrow, scipy, nibabel)

Pictures are one colour with some noise, so that what is read can be told from their mean.
"""
import csv, io, json, os, pickle, struct, sys, tarfile, zipfile
import numpy as np, nibabel as nib, pyarrow as pa, pyarrow.parquet as pq, scipy.io
from PIL import Image, ImageOps

out = sys.argv[1]
rng = np.random.default_rng(0)
colours = {0: (200, 40, 30), 1: (30, 180, 60), 2: (40, 60, 210)}
expected = {}

def path(*parts):
    p = os.path.join(out, *parts)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p

def picture(k, size=(24, 16)):
    a = np.clip(np.array(colours[k]) + rng.integers(-6, 7, (size[1], size[0], 3)), 0, 255)
    return Image.fromarray(a.astype(np.uint8))

def encoded(k, kind="JPEG"):
    b = io.BytesIO(); picture(k).save(b, kind, quality=90) if kind == "JPEG" else picture(k).save(b, kind)
    return b.getvalue()

def save(k, *parts):
    picture(k).save(path(*parts))

# --- CIFAR: the binary version, and pickles as Python 2 wrote them (strings of bytes) and as Python 3 does ---
names100 = ["apple", "bear", "sky"]
def cifar(labels):
    data = np.zeros((len(labels), 3, 32, 32), np.uint8)
    for i, k in enumerate(labels):
        data[i] = (np.array(colours[k])[:, None, None] + rng.integers(-6, 7, (3, 32, 32))).clip(0, 255)
    return data.reshape(len(labels), 3072)

train, test = [0, 1, 2, 2, 1, 0], [2, 0, 1]
with open(path("cifar-100-binary", "fine_label_names.txt"), "w") as f: f.write("\n".join(names100) + "\n")
with open(path("cifar-100-binary", "coarse_label_names.txt"), "w") as f: f.write("things\n")
for part, labels in ("train", train), ("test", test):
    with open(path("cifar-100-binary", f"{part}.bin"), "wb") as f:
        for k, row in zip(labels, cifar(labels)): f.write(bytes([0, k]) + row.tobytes())

class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 wrote it: str and bytes alike as strings of bytes, NumPy under its old name."""
    dispatch = dict(pickle._Pickler.dispatch)
    def save_bytes(self, obj):
        n = len(obj)
        self.write(b"U" + bytes([n]) + obj if n < 256 else b"T" + struct.pack("<i", n) + obj)
        self.memoize(obj)
    def save_text(self, obj): self.save_bytes(obj.encode("latin1"))
    dispatch[bytes] = save_bytes
    dispatch[str] = save_text
    def save_global(self, obj, name=None):
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(b"c" + module.encode() + b"\n" + (name or obj.__name__).encode() + b"\n")
        self.memoize(obj)
    dispatch[type(len)] = save_global
    dispatch[type(lambda: 0)] = save_global
    dispatch[type] = save_global

def python2(obj, p):
    with open(p, "wb") as f: Python2Pickler(f, 2).dump(obj)

for part, labels in ("train", train), ("test", test):
    python2({"filenames": [f"p_{i}.png" for i in range(len(labels))], "batch_label": f"{part}ing batch 1 of 1",
             "fine_labels": labels, "coarse_labels": [0] * len(labels), "data": cifar(labels)},
            path("cifar-100-python", part))
python2({"fine_label_names": names100, "coarse_label_names": ["things"]}, path("cifar-100-python", "meta"))

names10 = ["airplane", "bird", "cat"]
for i in range(1, 6):
    labels = [i % 3, (i + 1) % 3]
    with open(path("cifar-10-batches-py", f"data_batch_{i}"), "wb") as f:
        pickle.dump({b"batch_label": b"x", b"labels": labels, b"data": cifar(labels)}, f, 4)
    with open(path("cifar-10-batches-bin", f"data_batch_{i}.bin"), "wb") as f:
        for k, row in zip(labels, cifar(labels)): f.write(bytes([k]) + row.tobytes())
with open(path("cifar-10-batches-py", "test_batch"), "wb") as f:
    pickle.dump({b"labels": test, b"data": cifar(test)}, f, 4)
with open(path("cifar-10-batches-py", "batches.meta"), "wb") as f:
    pickle.dump({b"label_names": [n.encode() for n in names10], b"num_vis": 3072}, f, 4)
with open(path("cifar-10-batches-bin", "test_batch.bin"), "wb") as f:
    for k, row in zip(test, cifar(test)): f.write(bytes([k]) + row.tobytes())
with open(path("cifar-10-batches-bin", "batches.meta.txt"), "w") as f: f.write("\n".join(names10) + "\n\n")

# --- ChestX-ray14 ---
rows = [("00000001_000.png", "Cardiomegaly"), ("00000001_001.png", "Cardiomegaly|Emphysema"), ("00000002_000.png", "No Finding"),
        ("00000003_000.png", "Hernia"), ("00000003_001.png", "Infiltration|Effusion|Atelectasis"), ("00000004_000.png", "No Finding"),
        ("00000005_000.png", "Pleural_Thickening"), ("00000006_000.png", "Mass|Nodule")]
with open(path("chestxray14", "Data_Entry_2017_v2020.csv"), "w", newline="") as f:
    w = csv.writer(f)
    w.writerow(["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position",
                "OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"])
    for i, (name, found) in enumerate(rows):
        w.writerow([name, found, 0, int(name[:8]), 57, "M", "PA", 2682, 2749, 0.143, 0.143])
        grey = Image.fromarray(np.full((20, 20), 20 * (i + 1), np.uint8))
        grey.save(path("chestxray14", "images_001" if i < 5 else "images_002", "images", name))
for list_, part in ("train_val_list.txt", rows[:5]), ("test_list.txt", rows[5:]):
    with open(path("chestxray14", list_), "w") as f: f.write("\n".join(n for n, _ in part))

# --- iNaturalist 2019 ---
categories = [{"id": i, "name": str(i), "supercategory": s} for i, s in enumerate(["Amphibians", "Birds", "Plants"])]
for part, labels in ("train2019", [0, 1, 2, 0, 1, 2]), ("val2019", [1, 2, 0]):
    images, annotations = [], []
    for i, k in enumerate(labels):
        name = f"train_val2019/{categories[k]['supercategory']}/{k}/{part}{i}.jpg"
        save(k, "inat2019", *name.split("/"))
        images.append({"id": 1000 * (part == "val2019") + i, "file_name": name, "width": 24, "height": 16, "license": 0, "rights_holder": "x"})
        annotations.append({"id": i, "image_id": images[-1]["id"], "category_id": k})
    with open(path("inat2019", f"{part}.json"), "w") as f:
        json.dump({"info": {"year": 2019}, "images": images, "annotations": annotations, "categories": categories, "licenses": []}, f)

# --- ImageNet: class folders, validation pictures in one folder, the devkit; and Kaggle's table ---
synsets = ["n01440764", "n01443537", "n01484850"]
ids = {"n01440764": 2, "n01443537": 3, "n01484850": 1}
for root in "imagenet", "imagenet-kaggle":
    base = [root] + (["ILSVRC", "Data", "CLS-LOC"] if "kaggle" in root else [])
    for k, s in enumerate(synsets):
        for i in range(2): save(k, *base, "train", s, f"{s}_{i}.JPEG")
    for i, k in enumerate([2, 0, 1, 1]): save(k, *base, "val", f"ILSVRC2012_val_{i + 1:08d}.JPEG")
devkit = ["imagenet", "ILSVRC2012_devkit_t12", "data"]
fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("gloss", object), ("num_children", object),
          ("children", object), ("wordnet_height", object), ("num_train_images", object)]
table = np.zeros((3, 1), dtype=fields)
for i, s in enumerate(sorted(ids, key=ids.get)):
    table[i, 0] = (np.float64(ids[s]), s, "a fish, another name", "a gloss", np.float64(0), np.zeros((0, 0)), np.float64(0), np.float64(2))
scipy.io.savemat(path(*devkit, "meta.mat"), {"synsets": table}, do_compression=True)
with open(path(*devkit, "ILSVRC2012_validation_ground_truth.txt"), "w") as f:
    f.write("\n".join(str(ids[synsets[k]]) for k in [2, 0, 1, 1]) + "\n")
with open(path("imagenet-kaggle", "LOC_val_solution.csv"), "w") as f:
    f.write("ImageId,PredictionString\n" + "".join(f"ILSVRC2012_val_{i + 1:08d},{synsets[k]} 1 2 3 4 \n" for i, k in enumerate([2, 0, 1, 1])))

# --- parquet as the hub writes it, with class names in the metadata ---
features = {"image": {"_type": "Image"}, "label": {"names": names100, "_type": "ClassLabel"}}
schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
                   metadata={"huggingface": json.dumps({"info": {"features": features}})})
for name, labels in ("train-00000-of-00002", [0, 1, 2, 0, 1]), ("train-00001-of-00002", [2, 2]), ("validation-00000-of-00001", [1, 0, 2]):
    images = [{"bytes": encoded(k, "PNG" if i % 2 else "JPEG"), "path": f"{name}{i}"} for i, k in enumerate(labels)]
    pq.write_table(pa.table({"image": images, "label": labels}, schema=schema), path("hub", "data", f"{name}.parquet"), row_group_size=2)
pq.write_table(pa.table({"jpg": [encoded(k) for k in train], "species": [names10[k] for k in train]}), path("words.parquet"), compression="zstd")

# --- parquet: two columns of images; labels as booleans, words and lists ---
def bare(width):
    b = io.BytesIO(); Image.new("RGB", (width, 4), colours[0]).save(b, "PNG"); return b.getvalue()
def records(width): return [{"bytes": bare(width), "path": None}] * 3
record = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
features = {"conditioning": {"_type": "Image"}, "image": {"_type": "Image"}, "label": {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}}
schema = pa.schema([("conditioning", record), ("image", record), ("label", pa.int64())],
                   metadata={"huggingface": json.dumps({"info": {"features": features}})})
pq.write_table(pa.table({"conditioning": records(3), "image": records(4), "label": [2, 0, 1]}, schema=schema), path("tables", "two-images.parquet"))
pq.write_table(pa.table({"image": records(4), "label": [True, False, True], "word": ["b", "a", "b"], "tags": [["p", "r"], [], ["q"]]}),
               path("tables", "booleans.parquet"))

# --- tar shards (WebDataset) ---
def add(t, name, data):
    info = tarfile.TarInfo(name); info.size = len(data); t.addfile(info, io.BytesIO(data))
for name, labels, kind in ("set-train-000000.tar", [0, 1, 2, 1], tarfile.GNU_FORMAT), ("set-val-000000.tar", [2, 0], tarfile.PAX_FORMAT):
    with tarfile.open(path("shards", name), "w", format=kind) as t:
        for i, k in enumerate(labels):
            key = f"{'deep/' * 25 if i == 0 else ''}{name[4:7]}{i:05d}"
            add(t, key + ".cls", str(k).encode()); add(t, key + ".jpg", encoded(k)); add(t, key + ".json", b'{"other": 1}')
with tarfile.open(path("described.tar"), "w", format=tarfile.USTAR_FORMAT) as t:
    for i, k in enumerate(train):
        add(t, f"{i}.png", encoded(k, "PNG")); add(t, f"{i}.json", json.dumps({"label": names10[k]}).encode())

# --- zip archives: packed, and pictures stored ---
with zipfile.ZipFile(path("packed.zip"), "w", zipfile.ZIP_DEFLATED) as z:
    for part, labels in ("train", train), ("val", test):
        for i, k in enumerate(labels): z.writestr(f"birds/{part}/{names10[k]}/{i}.png", encoded(k, "PNG"))
    z.writestr("birds/README.txt", "x"); z.writestr("__MACOSX/birds/._x.png", "x")
with zipfile.ZipFile(path("flat.zip"), "w", zipfile.ZIP_STORED) as z:
    for i in range(4): z.writestr(f"{i}.jpg", encoded(i % 3))

# --- tables and lists ---
for i, k in enumerate(train + test): save(k, "listed", "pictures", f"{i}.jpg")
with open(path("listed", "all.csv"), "w", encoding="utf-8-sig", newline="") as f:
    w = csv.writer(f); w.writerow(["File", "Label", "Split", "note"])
    for i, k in enumerate(train + test): w.writerow([f"pictures/{i}.jpg", names10[k], "train" if i < 6 else "val", 'a, "quoted" note'])
with open(path("listed", "all.tsv"), "w") as f:
    f.write("path\tred\tgreen\n" + "".join(f"pictures/{i}.jpg\t{int(k == 0)}\t{int(k == 1)}\n" for i, k in enumerate(train)))
with open(path("listed", "lines.txt"), "w") as f: f.write("".join(f"pictures/{i}.jpg {k}\n" for i, k in enumerate(train)))
with open(path("listed", "plain.txt"), "w") as f: f.write("".join(f"./pictures/{i}.jpg\r\n" for i in range(6)))

# --- scans ---
def blob(shape, centre):
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    return ((grid - centre) ** 2).sum(-1)
ras = np.zeros((12, 14, 10), np.int16); d = blob(ras.shape, (4, 8, 5)); ras[d < 20] = 400; ras[d < 5] = 900
ras[1, 2, 3] = 777
mask = np.zeros(ras.shape, np.uint8); mask[d < 5] = 4; mask[(d >= 5) & (d < 12)] = 1
affine = np.diag([1.0, 2.0, 3.0, 1.0])
def nifti(data, aff, *parts, slope=None, cls=nib.Nifti1Image):
    img = cls(data, aff)
    if slope: img.header.set_slope_inter(*slope)
    nib.save(img, path(*parts))
for case in "BraTS20_Training_001", "BraTS20_Training_002":
    for kind, factor in ("flair", 1), ("t1", 2), ("t1ce", 3), ("t2", 4):
        nifti((ras * factor).astype(np.int16), affine, "brats", case, f"{case}_{kind}.nii.gz")
    nifti(mask, affine, "brats", case, f"{case}_seg.nii.gz")
# The same scan with its axes turned and mirrored: left is right, front is back, axes in another order.
turned = np.transpose(ras, (2, 0, 1))[:, ::-1, ::-1]
aff = np.array([[0, -1.0, 0, 11], [0, 0, -2.0, 26], [3.0, 0, 0, 0], [0, 0, 0, 1]])
nifti(np.ascontiguousarray(turned).astype(np.float32), aff, "turned", "turned.nii", cls=nib.Nifti2Image)
nifti(ras, affine, "turned", "plain.nii.gz")
big = nib.Nifti1Image(ras.astype(">i2"), affine, nib.Nifti1Header(endianness=">")); big.header.set_slope_inter(0.5, 10)
nib.save(big, path("turned", "big.nii"))
four = np.stack([ras, ras * 2], -1).astype(np.int16)
for case in "BRATS_001", "BRATS_002":
    nifti(four, affine, "decathlon", "imagesTr", f"{case}.nii.gz"); nifti(mask, affine, "decathlon", "labelsTr", f"{case}.nii.gz")

# --- picture formats, with what Pillow makes of them ---
base = picture(1, (32, 32)); base.putpixel((3, 2), (255, 0, 0))
ramp = (np.arange(32)[None, :] * 2000 + np.arange(32)[:, None]).astype(np.uint16)
def note(name, im, tolerance):
    """The size, the mean of each channel, one row of pixels, and how far another decoder may be from each of them."""
    a = np.asarray(im)
    expected.setdefault("images", {})[name] = {"size": list(im.size), "mean": a.astype(np.float64).mean((0, 1)).tolist(),
        "row": a[2].reshape(-1).tolist(), "tolerance": tolerance}
for name, opts, tol in ("a.png", {}, 0), ("a.jpg", {"quality": 95, "subsampling": 0}, 1), ("a.webp", {"lossless": True}, 0), ("a.bmp", {}, 0), ("a.tiff", {"compression": "tiff_lzw"}, 0):
    base.save(path("formats", name), **opts); note(name, Image.open(path("formats", name)).convert("RGB"), tol)
try:
    base.save(path("formats", "a.avif"), quality=90, subsampling="4:4:4"); note("a.avif", Image.open(path("formats", "a.avif")).convert("RGB"), 4)
except Exception as e: print("no avif", e)
base.quantize(16).save(path("formats", "palette.bmp")); note("palette.bmp", Image.open(path("formats", "palette.bmp")).convert("RGB"), 0)
base.convert("1").save(path("formats", "bits.bmp")); note("bits.bmp", Image.open(path("formats", "bits.bmp")).convert("RGB"), 0)
frames = [base.quantize(64), picture(0, (32, 32)).quantize(64)]
frames[0].save(path("formats", "moving.gif"), save_all=True, append_images=frames[1:]); note("moving.gif", Image.open(path("formats", "moving.gif")).convert("RGB"), 0)
base.convert("L").save(path("formats", "grey.png")); note("grey.png", base.convert("L").convert("RGB"), 0)
Image.fromarray(ramp).save(path("formats", "sixteen.png")); note("sixteen.png", Image.open(path("formats", "sixteen.png")).convert("RGB"), 0)
alpha = base.convert("RGBA"); alpha.putalpha(Image.fromarray(np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))))
alpha.save(path("formats", "alpha.png")); note("alpha.png", alpha.convert("RGB"), 0)
exif = Image.Exif(); exif[0x0112] = 6
base.save(path("formats", "turned.jpg"), exif=exif, quality=95, subsampling=0); note("turned.jpg", ImageOps.exif_transpose(Image.open(path("formats", "turned.jpg"))), 3)
base.convert("CMYK").save(path("formats", "cmyk.jpg"), quality=95); note("cmyk.jpg", Image.open(path("formats", "cmyk.jpg")).convert("RGB"), 2)

with open(path("expected.json"), "w") as f: json.dump(expected, f)
