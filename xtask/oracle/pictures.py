#!/usr/bin/env python3
"""Tiny pictures of every mode and format, and Pillow's RGB of each, for crates/resnet-io/tests/it/decode.rs.

    python3 pictures.py crates/resnet-io/tests/fixtures/pictures      (Pillow 13)

Writes the files and `pictures.tsv`: file, width, height, RGB bytes of `convert("RGB")` as hexadecimal text.
"""
import pathlib
import struct
import sys

import PIL
from PIL import Image

SIZE = WIDTH, HEIGHT = 7, 5
COUNT = WIDTH * HEIGHT


def noise(length, start=0):
    return bytes(((i * 2654435761) & 0xFFFFFFFF) >> 24 for i in range(start, start + length))


def smooth(channels):
    """A gradient, which lossy formats keep."""
    return bytes((30 * x + 20 * y + 60 * c) % 256 for y in range(HEIGHT) for x in range(WIDTH) for c in range(channels))


def image(mode, data):
    return Image.frombytes(mode, SIZE, data)


def palette(transparent):
    picture = image("P", bytes(i % 7 for i in range(COUNT)))
    picture.putpalette(noise(21))
    if transparent:
        picture.info["transparency"] = bytes([0, 80, 160, 255, 255, 255, 0])
    return picture


def sixteen(channels):
    """16-bit PNG, which Pillow reads but does not write from RGB: by hand."""
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    row = 2 * channels * WIDTH
    # Grey values on both sides of 255, where Pillow clips.
    data = noise(row * HEIGHT) if channels != 1 else b"".join(struct.pack(">H", 20 * i) for i in range(COUNT))
    raw = b"".join(b"\0" + data[y * row:(y + 1) * row] for y in range(HEIGHT))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def tiff(order, fields, chunks, tile=None):
    """TIFF of kinds that Pillow reads but does not write: `fields` by number, and the bytes of each strip or tile."""
    fields = {256: [WIDTH], 257: [HEIGHT], **fields}
    offsets, counts = (324, 325) if tile else (273, 279)
    fields |= {322: [tile[0]], 323: [tile[1]]} if tile else {278: [HEIGHT]}
    data = b"".join(chunks)
    fields |= {offsets: [8 + sum(map(len, chunks[:i])) for i in range(len(chunks))], counts: [len(c) for c in chunks]}
    directory, more = struct.pack(order + "H", len(fields)), b""
    behind = 8 + len(data) + 2 + 12 * len(fields) + 4
    for number, values in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(values)}H", *values)
        if len(packed) > 4:
            packed, more = struct.pack(order + "I", behind + len(more)), more + packed
        directory += struct.pack(order + "HHI", number, 3, len(values)) + packed.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return start + data + directory + bytes(4) + more


def tiffs(folder, pictures):
    info = {"lzw_differences": {317: 2}, "white_is_zero": {262: 0}}
    for name, (picture, compression) in pictures.items():
        picture.save(folder / f"{name}.tif", compression=compression, tiffinfo=info.get(name, {}))
    planes = [noise(COUNT, i * COUNT) for i in range(3)]
    (folder / "planes.tif").write_bytes(tiff(">", {258: [8] * 3, 262: [2], 277: [3], 284: [2]}, planes))
    wide = {258: [16] * 3, 262: [2], 277: [3]}
    (folder / "rgb_16.tif").write_bytes(tiff(">", wide, [noise(6 * COUNT)]))
    (folder / "premultiplied.tif").write_bytes(
        tiff("<", {258: [8] * 4, 262: [2], 277: [4], 338: [1], 274: [6]}, [noise(4 * COUNT)]))
    # Large enough for tiles at the right and lower edge that are filled up.
    side = {256: [20], 257: [18], 258: [8], 262: [1]}
    (folder / "tiles.tif").write_bytes(tiff("<", side, [noise(256, 256 * i) for i in range(4)], tile=(16, 16)))
    (folder / "four_bits.tif").write_bytes(tiff("<", {258: [4], 262: [0]}, [noise((WIDTH + 1) // 2 * HEIGHT)]))
    (folder / "signed_16.tif").write_bytes(
        tiff("<", {258: [16], 262: [1], 339: [2]}, [struct.pack(f"<{COUNT}h", *(40 * i - 300 for i in range(COUNT)))]))


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rgb, grey, rgba = image("RGB", noise(3 * COUNT)), image("L", noise(COUNT)), image("RGBA", noise(4 * COUNT))
    soft = image("RGB", smooth(3))
    pictures = {
        "rgb.png": rgb, "grey.png": grey, "grey_alpha.png": image("LA", noise(2 * COUNT)), "rgb_alpha.png": rgba,
        "palette.png": palette(False), "palette_alpha.png": palette(True), "one_bit.png": grey.convert("1"),
        "palette.gif": palette(False), "rgb.bmp": rgb, "grey.bmp": grey, "palette.bmp": palette(False),
        "lossless.webp": rgb, "lossless_alpha.webp": rgba,
        "rgb.jpg": soft, "grey.jpg": image("L", smooth(1)), "cmyk.jpg": image("CMYK", smooth(4)),
        "progressive.jpg": soft,
    }
    options = {".webp": {"lossless": True, "exact": True}, ".jpg": {"quality": 85}}
    for name, picture in pictures.items():
        more = {"progressive": True} if name == "progressive.jpg" else {}
        picture.save(folder / name, **options.get(pathlib.Path(name).suffix, {}), **more)
    for name, channels in {"grey_16.png": 1, "grey_alpha_16.png": 2, "rgb_16.png": 3, "rgb_alpha_16.png": 4}.items():
        (folder / name).write_bytes(sixteen(channels))
    tiffs(folder, {
        "rgb": (rgb, "raw"), "grey": (grey, "packbits"), "lzw": (rgb, "tiff_lzw"), "lzw_differences": (soft, "tiff_lzw"),
        "rgb_alpha": (rgba, "tiff_adobe_deflate"), "cmyk": (image("CMYK", noise(4 * COUNT)), "tiff_lzw"),
        "palette": (palette(False), "packbits"), "grey_alpha": (image("LA", noise(2 * COUNT)), "raw"),
        "one_bit": (grey.convert("1"), "group4"), "white_is_zero": (grey.convert("1"), "raw"),
        "grey_16": (image("I;16", struct.pack(f"<{COUNT}H", *(20 * i for i in range(COUNT)))), "tiff_lzw"),
        "grey_float": (image("F", struct.pack(f"<{COUNT}f", *(9.7 * i - 40 for i in range(COUNT)))), "raw"),
    })
    with open(folder / "pictures.tsv", "w") as out:
        out.write(f"# Pillow {PIL.__version__}, by xtask/oracle/pictures.py\n")
        for path in sorted(folder.iterdir()):
            if path.suffix != ".tsv":
                found = Image.open(path)
                out.write(f"{path.name}\t{found.width}\t{found.height}\t{found.convert('RGB').tobytes().hex()}\n")


main()
