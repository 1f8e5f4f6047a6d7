"""Damage that knows a format of bytes: a chunk, tag or tensor becomes what no sound file has; see damage.py."""

import io
import json
import math
import random
import re
import struct
import warnings
import zipfile
import zlib
from typing import Any

import torch

from tests.damage import damaged_tree, json_text, places

NUMBERS = (0, 1, 2, 3, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


def number_in(part: bytearray, draw: random.Random) -> None:
    """One number, of 1 to 4 bytes, or a few bytes of a part of a file."""
    if not part:
        part += b"\0" * draw.choice((1, 4))
    size = draw.choice((1, 2, 4))
    at = draw.randrange(min(len(part), draw.choice((16, 64, 1 << 30)))) // size * size
    value = draw.choice((*NUMBERS, draw.getrandbits(32)))
    part[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, draw.choice(("little", "big")))


def parts_changed(parts: list[bytearray], draw: random.Random) -> list[bytearray]:
    """A list of parts with one changed, dropped, doubled, shortened or moved."""
    at = draw.randrange(len(parts))
    kind = draw.choice(("number", "number", "number", "number", "drop", "double", "many", "short", "long", "move"))
    if kind == "number":
        for _ in range(draw.choice((1, 1, 4))):
            number_in(parts[at], draw)
    elif kind == "drop":
        del parts[at]
    elif kind in ("double", "many"):
        parts[at:at] = [bytearray(parts[at]) for _ in range(1 if kind == "double" else 300)]
    elif kind == "short":
        del parts[at][draw.randrange(len(parts[at]) + 1) :]
    elif kind == "long":
        parts[at] += draw.randbytes(draw.choice((1, 4, 3000)))
    else:
        parts.insert(draw.randrange(len(parts)), parts.pop(at))
    return parts


def in_png(data: bytes, draw: random.Random) -> bytes:
    """Chunks with sums that are right; also of compressed text, profiles and EXIF."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append(bytearray(data[at + 4 : at + 8 + size]))
        at += 12 + size
    if draw.random() < 0.3:
        packed = zlib.compress(b"\0" * draw.choice((10, 1000, 50_000_000)))
        more = (b"zTXta\0\0" + packed, b"iCCPa\0\0" + packed, b"eXIfMM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0")
        chunks.insert(1, bytearray(draw.choice((*more, b"tRNS\0\1\2", b"acTL\xff\0\0\0\0\0\0\0", b"PLTE" + b"\1" * 9))))
    elif draw.random() < 0.5:
        chunks[0][4:12] = struct.pack(">II", *draw.choices((0, 1, 63, 64, 72, 65535, 1 << 20, 1 << 31), k=2))
    else:
        chunks = parts_changed(chunks, draw)
    return data[:8] + b"".join(
        (len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks if len(c) >= 4
    )


def in_jpeg(data: bytes, draw: random.Random) -> bytes:
    """Segments with lengths that are right; also EXIF's orientation and colour profiles of all kinds."""
    segments, at = [], 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        size = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segments.append(bytearray(data[at + 1 : at + 2] + data[at + 4 : at + size]))
        at += size
    kind = draw.randrange(4)
    if kind == 0:
        tag = struct.pack("<HHII", 0x0112, *draw.choices((0, 1, 3, 4, 6, 8, 9, 255, 65535), k=3))
        segments.insert(0, bytearray(b"\xe1Exif\0\0II*\0\x08\0\0\0\x01\0" + tag + b"\0" * 4))
    elif kind == 1:
        segments.insert(0, bytearray(b"\xe2ICC_PROFILE\0" + draw.randbytes(draw.choice((2, 200, 60_000)))))
    else:
        sof = [s for s in segments if 0xC0 <= s[0] <= 0xCF and s[0] not in (0xC4, 0xC8, 0xCC)]
        if kind == 2 and sof:
            sof[0][2:6] = struct.pack(">HH", *draw.choices((0, 1, 63, 64, 72, 65535, 65500), k=2))
        else:
            segments = parts_changed(segments, draw)
    head = b"".join(b"\xff" + s[:1] + (len(s) + 1).to_bytes(2, "big") + s[1:] for s in segments if 0 < len(s) < 65534)
    return b"\xff\xd8" + head + data[at:]


def in_riff(data: bytes, draw: random.Random) -> bytes:
    """WebP's and AVI's chunks, with sizes that are right."""
    chunks, at = [], 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.append(bytearray(data[at : at + 4] + data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    chunks = parts_changed(chunks, draw)
    chunks = [c for c in chunks if len(c) >= 4]
    body = b"".join(c[:4] + (len(c) - 4).to_bytes(4, "little") + c[4:] + b"\0" * (len(c) % 2) for c in chunks)
    return data[:4] + (len(body) + 4).to_bytes(4, "little") + data[8:12] + body


HOLDERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"jp2h", b"iprp", b"ipco", b"meta")


def in_boxes(data: bytes, draw: random.Random) -> bytes:
    """A box of MP4, MOV, AVIF or JPEG 2000, at any depth; sizes around it are right."""
    boxes, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        size = size if 8 <= size <= len(data) - at else len(data) - at
        boxes.append(bytearray(data[at + 4 : at + size]))
        at += size
    inner = [i for i, box in enumerate(boxes) if bytes(box[:4]) in HOLDERS and len(box) > 20]
    if inner and draw.random() < 0.8:
        i = draw.choice(inner)
        skip = 8 if boxes[i][:4] == b"meta" else 4
        boxes[i][skip:] = in_boxes(bytes(boxes[i][skip:]), draw)
    elif boxes:
        boxes = parts_changed(boxes, draw)
    return b"".join((len(box) + 4).to_bytes(4, "big") + box for box in boxes if len(box) >= 4)


def in_tiff(data: bytes, draw: random.Random) -> bytes:
    """Tags of the first directory: another type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    new, (start,) = bytearray(data), struct.unpack_from(order + "I", data, 4)
    (number,) = struct.unpack_from(order + "H", data, start)
    for _ in range(draw.choice((1, 1, 3))):
        at = start + 2 + 12 * draw.randrange(number)
        tag, kind, count, value = struct.unpack_from(order + "HHII", new, at)
        odd = draw.choice((0, 1, 2, 8, 16, 255, 65535, 1 << 20, 1 << 31, len(data) - 1, draw.getrandbits(32)))
        other = draw.choice((tag, 274, 317, 338, 322, 330, 34675))
        changed = [[other, kind, count, odd], [tag, odd % 20, count, value]]
        changed += [[tag, kind, odd, value], [tag, kind, count, odd]]
        struct.pack_into(order + "HHII", new, at, *draw.choice(changed))
    return bytes(new)


def in_pnm(data: bytes, draw: random.Random) -> bytes:
    head, rest = data[:15].split(b"\n"), data[15:]
    words = (b"0", b"-1", b"1", b"63", b"65535", b"65536", b"4294967296", b"9" * 40, b"#", b"", b"1.5")
    head[draw.randrange(len(head))] = draw.choice((*words, b"P4", b"P7"))
    return b"\n".join(head) + rest


def in_header(data: bytes, draw: random.Random) -> bytes:
    """A number within the first 64 bytes."""
    new = bytearray(data[:64])
    for _ in range(draw.choice((1, 1, 3))):
        number_in(new, draw)
    return bytes(new[:64]) + data[64:]


def in_safetensors(data: bytes, draw: random.Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    head, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    if draw.random() < 0.5:  # a sound file of other numbers
        start, end = draw.choice([about["data_offsets"] for name, about in head.items() if name != "__metadata__"])
        odd = struct.pack("<f", draw.choice((math.nan, math.inf, -math.inf, 3e38, -3e38, 0.0, 1e-40)))
        return data[: 8 + size + start] + odd * ((end - start) // 4) + body[end:]
    text = json_text(damaged_tree(head, draw), draw).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + body


def in_torch(data: bytes, draw: random.Random) -> bytes:
    """What a `torch.save` holds: another value, or a tensor of another kind, shape or number."""
    tree = torch.load(io.BytesIO(data), weights_only=True)
    if draw.random() < 0.3:
        tree = damaged_tree(tree, draw)
    else:
        tensors = [(inside, key) for inside, key in places(tree) if isinstance(inside[key], torch.Tensor)]
        for inside, key in draw.sample(tensors, k=min(len(tensors), draw.choice((1, 1, 5)))):
            inside[key] = _other_tensor(inside[key], draw)
    out = io.BytesIO()
    torch.save(tree, out, _use_new_zipfile_serialization=draw.random() < 0.8)
    return out.getvalue()


def _other_tensor(tensor: torch.Tensor, draw: random.Random) -> Any:
    number = draw.choice((math.nan, math.inf, -math.inf, 3e38, -1.0, 0.0))
    if draw.random() < 0.4 and tensor.is_floating_point():
        return torch.full_like(tensor, number)
    huge = torch.zeros(1).expand(draw.choice((10**5, 10**10, 2**40)))
    others = [tensor.new_zeros(0), tensor[None], tensor.flatten(), tensor.to(torch.int64), huge]
    others += [
        tensor.to(torch.complex64),
        tensor.to(torch.float16),
        torch.zeros(3, 5),
        torch.tensor(2**62),
        torch.tensor(number),
        tensor.bool(),
    ]
    if tensor.ndim and tensor.numel():
        others += [tensor.expand(10**6, *tensor.shape), tensor.to_sparse(), tensor.to("meta")]
    return draw.choice(others)


def in_zip(data: bytes, draw: random.Random) -> bytes:
    """An archive anew: other names, methods, many members, and numbers of its tables."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    out, methods = io.BytesIO(), (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    names = (
        "/etc/passwd.jpg",
        "../a.jpg",
        "a\0b.png",
        "é.png",
        "a" * 60_000 + ".jpg",
        ".png",
        "a/",
        "\x1b[2J.png",
        " ",
    )
    many = draw.random() < 0.1
    with zipfile.ZipFile(out, "w") as archive, warnings.catch_warnings(action="ignore"):  # of names that come twice
        for name, content in [("a.jpg", b"")] * draw.choice((400, 600, 5000)) if many else members:
            if draw.random() < 0.3 and not many:
                name = draw.choice((*names, members[0][0]))
            if draw.random() < 0.2 and not many:
                content = draw.choice((b"", content[: len(content) // 2], b"\0" * 3_000_000, data))
            archive.writestr(name, content, 0 if many else draw.choice(methods), None)
    new = bytearray(out.getvalue())
    for _ in range(draw.choice((0, 1, 1, 3))):
        headers = [found.start() for found in re.finditer(b"PK(\x01\x02|\x03\x04|\x05\x06)", bytes(new))]
        at = draw.choice(headers) + 4
        part = new[at : at + 44]
        number_in(part, draw)
        new[at : at + 44] = part[:44]
    return bytes(new)
