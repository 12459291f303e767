"""Images of all formats and kinds of pixels, and what Pillow's convert("RGB") makes of them.

node make_avif.mjs && python make_images.py   (Pillow 13 with its wheels' libraries, numpy)

Files go to images/formats, the numbers to images/formats.safetensors: one tensor [height, width, 3] for each file, turned by
EXIF as ImageOps.exif_transpose does.
"""

import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

here = Path(__file__).parent / "images"
folder = here / "formats"
folder.mkdir(exist_ok=True)
random = np.random.default_rng(7)

W, H = 37, 23  # odd, so that halved chroma has an edge
x, y = np.meshgrid(np.arange(W), np.arange(H))
smooth = np.stack([x * 255 / (W - 1), y * 255 / (H - 1), (x + y) * 255 / (W + H - 2)], -1).astype(np.uint8)
colours = smooth.copy()
colours[5:15, 8:20] = [250, 10, 20]
colours[12:20, 18:30] = [5, 240, 60]
colours[2:6, 28:35] = [10, 20, 230]
rgb = Image.fromarray(colours)
grey = rgb.convert("L")
alpha = Image.fromarray(((x * 7 + y * 11) % 256).astype(np.uint8))
rgba = rgb.copy()
rgba.putalpha(alpha)
la = grey.copy()
la.putalpha(alpha)
palette = rgb.quantize(32)
bits = grey.convert("1")
deep_grey = Image.fromarray((x * 23 + y * 17).astype(np.uint16))  # some above 255
cmyk = Image.merge("CMYK", [Image.fromarray(c) for c in (colours[..., 0], colours[..., 1], colours[..., 2], smooth[..., 2] // 3)])


def save(name, image, **options):
    image.save(folder / name, **options)


# JPEG
save("rgb-420.jpg", rgb, quality=85, subsampling="4:2:0")
save("rgb-422.jpg", rgb, quality=85, subsampling="4:2:2")
save("rgb-444-progressive.jpg", rgb, quality=90, subsampling="4:4:4", progressive=True)
save("grey.jpg", grey, quality=90)
save("cmyk.jpg", cmyk, quality=95)
save("rgb-kept.jpg", rgb, quality=95, keep_rgb=True)


def without_adobe(data):
    """The same JPEG without Adobe's marker."""
    at = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[at + 2 : at + 4])[0]
    return data[:at] + data[at + 2 + length :]


def with_transform(data, transform):
    at = data.index(b"\xff\xee")
    return data[: at + 15] + bytes([transform]) + data[at + 16 :]


stored = (folder / "cmyk.jpg").read_bytes()
(folder / "cmyk-without-adobe.jpg").write_bytes(without_adobe(stored))
(folder / "ycck.jpg").write_bytes(with_transform(stored, 2))
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(f"turned-{orientation}.jpg", rgb, quality=95, subsampling="4:4:4", exif=exif)

# PNG
for name, image in [("rgb", rgb), ("rgba", rgba), ("grey", grey), ("la", la), ("palette", palette), ("bits", bits), ("grey16", deep_grey)]:
    save(f"{name}.png", image)
save("palette-transparent.png", palette, transparency=3)
save("rgb-transparent.png", rgb, transparency=(250, 10, 20))
save("palette-4.png", rgb.quantize(7))
save("animated.png", rgb, save_all=True, append_images=[rgb.rotate(180)], duration=100)
exif = Image.Exif()
exif[0x0112] = 6
save("turned-6.png", rgb, exif=exif)


def png16(name, channels, kind):
    """Colours of 16 bits, which Pillow does not write."""
    import zlib

    values = random.integers(0, 65536, (H, W, channels)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    chunk = lambda tag, data: struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
    header = struct.pack(">IIBBBBB", W, H, 16, kind, 0, 0, 0)
    (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


png16("rgb16.png", 3, 2)
png16("rgba16.png", 4, 6)
png16("la16.png", 2, 4)

# Profiles: made by hand, with primaries and curves of their own
def profile(gamma, grey_only=False):
    """A matrix profile with wide primaries, or a grey one (ICC.1:2001)."""
    s15 = lambda v: struct.pack(">i", round(v * 65536))
    xyz = lambda *v: b"XYZ \0\0\0\0" + b"".join(map(s15, v))
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = lambda t: b"desc\0\0\0\0" + struct.pack(">I", len(t) + 1) + t + b"\0" * (1 + 78)
    tags = [(b"desc", text(b"test")), (b"cprt", b"text\0\0\0\0test\0"), (b"wtpt", xyz(0.9642, 1, 0.8249))]
    if grey_only:
        tags += [(b"kTRC", curve)]
    else:
        tags += [(b"rXYZ", xyz(0.6097, 0.3111, 0.0195)), (b"gXYZ", xyz(0.2053, 0.6257, 0.0609)), (b"bXYZ", xyz(0.1492, 0.0632, 0.7446))]
        tags += [(t, curve) for t in (b"rTRC", b"gTRC", b"bTRC")]
    at = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags:
        data += b"\0" * (-len(data) % 4)
        table += tag + struct.pack(">II", at + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", 0, b"\0\0\0\0", 0x02100000, b"mntr", b"GRAY" if grey_only else b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + s15(0.9642) + s15(1) + s15(0.8249) + b"\0" * 48
    whole = header + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


wide, dark = profile(2.2), profile(1.8, grey_only=True)
ImageCms.ImageCmsProfile(io.BytesIO(wide)), ImageCms.ImageCmsProfile(io.BytesIO(dark))
save("profile-rgb.png", rgb, icc_profile=wide)
save("profile-rgba.png", rgba, icc_profile=wide)
save("profile-grey.png", grey, icc_profile=dark)
save("profile-palette.png", palette, icc_profile=wide)
save("profile.jpg", rgb, quality=95, icc_profile=wide)
save("profile-grey.jpg", grey, quality=95, icc_profile=dark)
save("profile-lossless.webp", rgb, lossless=True, icc_profile=wide)
save("profile-444.avif", rgb, quality=90, subsampling="4:4:4", icc_profile=wide)
save("profile-420.avif", rgb, quality=90, subsampling="4:2:0", icc_profile=wide)
save("profile.tif", rgb, icc_profile=wide)

# WebP
save("lossless.webp", rgb, lossless=True)
save("lossless-alpha.webp", rgba, lossless=True, exact=True)
save("lossy.webp", rgb, quality=80)
save("lossy-alpha.webp", rgba, quality=80)
save("animated.webp", rgb, save_all=True, append_images=[rgb.rotate(180)], duration=100, lossless=True)

# AVIF
for sampling in ("4:4:4", "4:2:2", "4:2:0"):
    for span in ("full", "limited"):
        save(f"{sampling.replace(':', '')}-{span}.avif", rgb, quality=80, subsampling=sampling, range=span)
save("grey.avif", grey, quality=90, subsampling="4:0:0")
save("alpha.avif", rgba, quality=90, subsampling="4:2:0")
save("animated.avif", rgb, save_all=True, append_images=[rgb.rotate(180)], duration=100)
for orientation in range(2, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(f"turned-{orientation}.avif", rgb, quality=90, subsampling="4:2:0", exif=exif)
stored = bytearray((folder / "420-limited.avif").read_bytes())
stored[stored.index(b"colrnclx") + 13] = 1
(folder / "420-bt709.avif").write_bytes(stored)

# TIFF
tiffs = [("rgb", rgb), ("rgba", rgba), ("grey", grey), ("la", la), ("palette", palette), ("bits", bits), ("grey16", deep_grey), ("cmyk", cmyk)]
for name, image in tiffs:
    save(f"{name}.tif", image)
save("rgb-lzw.tif", rgb, compression="tiff_lzw")
save("rgb-deflate.tif", rgb, compression="tiff_adobe_deflate")
save("grey-packbits.tif", grey, compression="packbits")
save("rgb-jpeg.tif", rgb, compression="jpeg", quality=95)
save("rgb-big.tif", rgb, big_tiff=True)
info = TiffImagePlugin.ImageFileDirectory_v2()
info[274] = 6
save("turned-6.tif", rgb, tiffinfo=info)
save("pages.tif", rgb, save_all=True, append_images=[rgb.rotate(180)])


def tiff(name, values, photometric, bits, extra=None, sample_format=1, endian="<"):
    """A plain TIFF of any kind: values [H, W, n]."""
    h, w, n = values.shape
    data = values.astype(values.dtype.newbyteorder(endian)).tobytes()
    entries = [(256, 4, [w]), (257, 4, [h]), (258, 3, [bits] * n), (259, 3, [1]), (262, 3, [photometric]), (273, 4, [0]), (277, 3, [n]), (278, 4, [h]), (279, 4, [len(data)]), (284, 3, [1])]
    if extra is not None:
        entries.append((338, 3, extra))
    entries.append((339, 3, [sample_format] * n))
    more, at = b"", 8 + 2 + 12 * len(entries) + 4
    long = lambda kind, v: b"".join(struct.pack(endian + ("H" if kind == 3 else "I"), i) for i in v)
    size = sum(len(long(k, v)) for _, k, v in entries if len(long(k, v)) > 4)
    out = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "I", 8) + struct.pack(endian + "H", len(entries))
    for tag, kind, v in entries:
        packed = long(kind, [at + size] if tag == 273 else v)
        out += struct.pack(endian + "HHI", tag, kind, len(v))
        if len(packed) > 4:
            out += struct.pack(endian + "I", at + len(more))
            more += packed
        else:
            out += packed.ljust(4, b"\0")
    (folder / name).write_bytes(out + b"\0\0\0\0" + more + data)


deep = random.integers(0, 65536, (H, W, 4)).astype(np.uint16)
tiff("rgb16.tif", deep[..., :3], 2, 16)
tiff("rgb16-big-endian.tif", deep[..., :3], 2, 16, endian=">")
tiff("rgba16.tif", deep, 2, 16, extra=[2])
tiff("white-is-zero.tif", colours[..., :1], 0, 8)
tiff("four-bands.tif", np.dstack([colours, np.asarray(alpha)]), 2, 8, extra=[0])
tiff("premultiplied.tif", np.dstack([colours * (np.asarray(alpha)[..., None] / 255.0), np.asarray(alpha)]).astype(np.uint8), 2, 8, extra=[1])
# Refused: Pillow gives none or no one meaning
refused = Path(here / "refused")
refused.mkdir(exist_ok=True)
for name, args in {
    "five-bands.tif": (np.dstack([colours, np.asarray(alpha), np.asarray(grey)]), 2, 8, [0, 0]),
    "four-grey-bands.tif": (np.dstack([colours, np.asarray(alpha)]), 1, 8, [0, 0, 0]),
    "lab.tif": (colours, 8, 8, None),
    "ycbcr.tif": (colours, 6, 8, None),
}.items():
    tiff(f"../refused/{name}", *args)
tiff("../refused/float.tif", smooth[..., :1].astype(np.float32), 1, 32, sample_format=3)
tiff("../refused/cmyk16.tif", deep, 5, 16)
tiff("../refused/signed.tif", smooth[..., :1].astype(np.int16), 1, 16, sample_format=2)

# BMP
for name, image in [("rgb", rgb), ("rgba", rgba), ("grey", grey), ("palette", palette), ("bits", bits)]:
    save(f"{name}.bmp", image)


def bmp(name, bits, data, compression=0, colours_used=0, table=b"", masks=b"", height=H, width=W, old=False):
    if old:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, colours_used, 0)
    start = 14 + len(header) + len(masks) + len(table)
    (folder / name).write_bytes(struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + header + masks + table + data)


table16 = b"".join(bytes([(i * 16) % 256, (i * 40) % 256, 255 - i * 15, 0]) for i in range(16))
nibbles = random.integers(0, 16, (H, W)).astype(np.uint8)
stride = (W * 4 + 31) // 32 * 4
rows = np.zeros((H, stride), np.uint8)
padded = np.pad(nibbles, ((0, 0), (0, 1)))
rows[:, : padded.shape[1] // 2] = padded[:, ::2] << 4 | padded[:, 1::2]
bmp("palette-4.bmp", 4, rows.tobytes(), table=table16)
table256 = b"".join(bytes([i, 255 - i, (i * 3) % 256, 0]) for i in range(256))
old_table = b"".join(table256[4 * i : 4 * i + 3] for i in range(256))
bytes8 = np.zeros((H, (W + 3) // 4 * 4), np.uint8)
bytes8[:, :W] = random.integers(0, 256, (H, W))
bmp("old-header.bmp", 8, bytes8.tobytes(), table=old_table, old=True)
bmp("top-down.bmp", 8, bytes8.tobytes(), table=table256, height=-H)
runs = b""
for row in range(H):
    runs += bytes([20, row, 0, 5, 1, 2, 3, 4, 5, 0, W - 25, 200, 0, 0])
runs += b"\0\1"
bmp("runs-8.bmp", 8, runs, compression=1, table=table256)
runs = b""
for row in range(H):
    runs += bytes([20, 0x12, 0, 6, 0x34, 0x56, 0x78, 0, W - 26, 0x9A, 0, 0])
runs += b"\0\1"
bmp("runs-4.bmp", 4, runs, compression=2, table=table16)
words = random.integers(0, 65536, (H, W + W % 2)).astype("<u2")
bmp("rgb555.bmp", 16, words.tobytes())
bmp("rgb565.bmp", 16, words.tobytes(), compression=3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))
longs = random.integers(0, 2**32, (H, W)).astype("<u4")
bmp("rgb32.bmp", 32, longs.tobytes())

# GIF
save("palette.gif", palette)
save("grey.gif", grey)
save("transparent.gif", palette, transparency=3)
save("animated.gif", palette, save_all=True, append_images=[palette.rotate(180)], duration=100)


def part_of_canvas(data, left, top, canvas_width, canvas_height):
    """The same image at a place of a larger canvas."""
    out = bytearray(data)
    out[6:10] = struct.pack("<HH", canvas_width, canvas_height)
    at = 13 + (3 << ((out[10] & 7) + 1) if out[10] & 0x80 else 0)
    while out[at] == 0x21:
        at += 2
        while out[at]:
            at += out[at] + 1
        at += 1
    out[at + 1 : at + 5] = struct.pack("<HH", left, top)
    return bytes(out)


(folder / "part.gif").write_bytes(part_of_canvas((folder / "palette.gif").read_bytes(), 3, 2, W + 8, H + 5))
(folder / "part-transparent.gif").write_bytes(part_of_canvas((folder / "transparent.gif").read_bytes(), 3, 2, W + 8, H + 5))

expected = {}
for path in sorted(folder.iterdir()):
    with Image.open(path) as image:
        expected[path.name] = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
header, body = {}, b""
for name, values in expected.items():
    header[name] = {"dtype": "U8", "shape": list(values.shape), "data_offsets": [len(body), len(body) + values.nbytes]}
    body += values.tobytes()
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
(here / "formats.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
print(len(expected), "images")
