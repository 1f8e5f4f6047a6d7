"""Small files that unfold to gigabytes, and files that point to others: refused in one line, in little memory."""

import argparse
import gzip
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import torch

from backbone.weights.file_kinds import MAX_BYTES, Budget
from backbone.weights.read import read_bytes, read_weights
from backbone.weights.readers.flatbuffer import read_flexbuffer_map
from tests.backbone.weights.test_damaged import keras_file, refused, tarred, zipped
from tests.backbone.weights.test_torch import saved
from tests.backbone.weights.weight_files import keras_layers, timm_state_dict

MEMORY_MB = 250  # that refusing one of these files may take; they unpack to 400 MB and more
FIRST = "conv1/conv1/kernel:0"


CODE = """
import json, sys
from pathlib import Path
import h5py, torch
from backbone.weights.read import read_bytes, read_weights

def memory(kind):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) / 1024

for path in map(Path, sys.argv[1:]):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    try:
        said = str(read_weights(read_bytes(path), name="odd.bin"))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps([path.name, said, memory("VmHWM") - before]), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What is said of each of `FILES`, and how many MB a process takes to read it."""
    pytest.importorskip("h5py")
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs /proc to measure memory")
    folder = tmp_path_factory.mktemp("hostile")
    for name, (make, _) in FILES.items():
        data = make()
        assert len(data) < 6_000_000
        (folder / name).write_bytes(data)
    command = [sys.executable, "-c", CODE, *(str(folder / name) for name in FILES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr[-2000:]
    return {name: (said, memory) for name, said, memory in map(json.loads, done.stdout.splitlines())}


def overlapping_tflite() -> bytes:
    """9,000 buffers that are one and the same table, of 200 kB."""
    zeros, number = 200_000, 9_000
    builder = flatbuffers.Builder(1 << 20)
    content = builder.CreateByteVector(bytes(zeros))
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, content, 0)
    buffer = builder.EndObject()
    builder.StartVector(4, number, 4)
    for _ in range(number):
        builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    builder.StartObject(5)
    builder.PrependInt32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(4, buffers, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


def many_operators(number: int, *, num_inputs: int = 1) -> bytes:
    """A graph whose operators all read the same tensors."""
    builder = flatbuffers.Builder(1 << 20)

    def table(slots: dict[int, int]) -> int:
        builder.StartObject(1 + max(slots, default=0))
        for slot, offset in slots.items():
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        return builder.EndObject()

    def vector(items: list[int], prepend: Any) -> int:
        builder.StartVector(4, len(items), 4)
        for item in items:
            prepend(item)
        return builder.EndVector()

    offset = builder.PrependUOffsetTRelative
    numbers = [vector([0] * count, builder.PrependInt32) for count in (num_inputs, 1, 4)]
    operator, code, buffer, tensor = table({1: numbers[0], 2: numbers[1]}), table({}), table({}), table({0: numbers[2]})
    graph = table({0: vector([tensor], offset), 1: numbers[1], 2: numbers[1], 3: vector([operator] * number, offset)})
    slots = {1: vector([code], offset), 2: vector([graph], offset), 4: vector([buffer], offset)}
    builder.Finish(table(slots), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("number", "num_inputs", "match"),
    [
        (1_000_000, 1, "1,000,000 tables in one list, 10,000 are allowed"),
        (9_000, 1_500, "1,500 tensors of one operator, 1,000 are allowed"),
    ],
)
def test_a_large_file_of_many_operators_is_refused(number, num_inputs, match):
    data = many_operators(number, num_inputs=num_inputs)
    with pytest.raises(ValueError, match=f"^odd: truncated or damaged TFLite file .{match}"):
        read_weights(data, name="odd")
    with pytest.raises(ValueError, match=r"convolution 1 should be CONV_2D, found ADD"):
        read_weights(many_operators(2), name="odd")  # the file is one but for the number


def flexbuffer_of_one_key() -> bytes:
    """A map of 5,000 options whose names are the ends of one name of 230 kB."""
    number, key = 5_000, 230_000
    keys = b"k" * key + b"\0"
    index = b"".join(struct.pack("<I", len(keys) + 4 * i - i) for i in range(number))
    values_at = len(keys) + len(index) + 12
    head = struct.pack("<III", values_at - 12 - len(keys), 4, number)
    data = keys + index + head + bytes(4 * number) + bytes([1 << 2 | 2]) * number
    return data + struct.pack("<I", len(data) - values_at) + bytes([9 << 2 | 2, 4])


def declared_h5() -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset(FIRST, (2_000_000_000,), np.float32, chunks=(1 << 20,))
    return buffer.getvalue()


def huge_chunk_h5() -> bytes:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset(FIRST, (8,), np.float32, maxshape=(None,), chunks=(900_000_000,), compression="gzip")
    return buffer.getvalue()


def inflating_h5() -> bytes:
    """A chunk of 32 bytes, as declared, that gzip unpacks to 400 MB."""
    import h5py

    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        dataset = file.create_dataset(FIRST, (8,), np.float32, chunks=(8,), compression="gzip")
        dataset.id.write_direct_chunk((0,), packed)
    return buffer.getvalue()


def nested_h5() -> bytes:
    """2,000 groups within each other: minutes, if each is looked up from the top."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest") as file:
        group = file
        for _ in range(2000):
            group = group.create_group("g")
    return buffer.getvalue()


def knotted_h5() -> bytes:
    """20 levels of groups, each under ten names in the one above: 10^20 paths."""
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file
        for _ in range(20):
            below = group.create_group("0")
            for i in range(1, 10):
                group[str(i)] = below
            group = below
    return buffer.getvalue()


def repeated_tensors() -> bytes:
    """Tensors of the right names, of stride 0: one number each in the file, 3.6 GB in memory."""
    state_dict = timm_state_dict(num_classes=3, seed=1)
    for key, tensor in state_dict.items():
        state_dict[key] = tensor.new_zeros(1).expand(7_000_000)
    return saved(state_dict)


def shared_storage() -> bytes:
    """Each tensor all of one storage of 40 MB, compressed to 40 kB."""
    one = torch.zeros(10_000_000)
    return recompressed(saved({key: one for key in timm_state_dict(num_classes=3, seed=1)}))


def recompressed(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as stored, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for info in stored.infolist():
            packed.writestr(info.filename, stored.read(info))
    return buffer.getvalue()


def declaring(data: bytes, number: int) -> bytes:
    """A zip whose members, in both tables of contents, declare to unpack to `number` bytes each."""
    changed = bytearray(data)
    for mark, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = changed.find(mark)
        while at >= 0:
            changed[at + offset : at + offset + 4] = struct.pack("<I", number)
            at = changed.find(mark, at + 1)
    return bytes(changed)


def inflating_record() -> bytes:
    return declaring(recompressed(saved({"conv_stem.weight": torch.zeros(100_000_000)})), 1_000_000_000)


def bytes_from_a_number() -> bytes:
    class Bytes:
        def __reduce__(self):
            return bytearray, (3_000_000_000,)

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data.pkl", pickle.dumps({"a": Bytes()}, 2))
        archive.writestr("net/version", "3\n")
    return buffer.getvalue()


def one_record_by_many_names() -> bytes:
    """A record of 20 MB that is looked up 128 times, by names that differ in the case of their letters."""
    with zipfile.ZipFile(io.BytesIO(saved({"w": torch.zeros(5_000_000)}))) as archive:
        stored = archive.read("archive/data.pkl")
    start, end = stored.index(b"X\x01\x00\x00\x00w"), stored.rindex(b"s.")
    entry = stored[start:end]
    names = ["".join(c.upper() if i >> j & 1 else c for j, c in enumerate("abcdefg")) for i in range(128)]
    entries = []
    for name in names:
        one = entry.replace(b"X\x01\x00\x00\x000", struct.pack("<BI", 88, 7) + name.encode())
        entries.append(one.replace(b"X\x01\x00\x00\x00w", struct.pack("<BI", 88, 7) + name.encode()) + b"s")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", stored[:start] + b"".join(entries) + b".")
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/abcdefg", bytes(20_000_000))
    return buffer.getvalue()


def many_members() -> bytes:
    """Twelve of 100 MB that begin as weights do, and so would all be kept."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for i in range(12):
            archive.writestr(f"{i}.h5", b"\x89HDF\r\n\x1a\n" + bytes(100_000_000))
    return buffer.getvalue()


def lying_member() -> bytes:
    """A member that declares 1,000 bytes and inflates to 400 MB."""
    return declaring(zipped(bytes(400_000_000)), 1000)


def squeezed_member() -> bytes:
    """By bzip2, which unpacks all at once whatever is declared."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2, compresslevel=1) as archive:
        archive.writestr("net.h5", bytes(400_000_000))
    return declaring(buffer.getvalue(), 1000)


def long_name_tar() -> bytes:
    """A header that declares a name of 400 MB."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 400_000_000
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        file.write(info.tobuf())
        for _ in range(400):
            file.write(b"n" * 1_000_000)
    return buffer.getvalue()


def many_headers() -> bytes:
    """200,000 empty members in half a MB."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        header = tarfile.TarInfo("a").tobuf()
        for _ in range(200):
            file.write(header * 1000)
    return buffer.getvalue()


def sparse_tar() -> bytes:
    """A member whose holes alone have 8 GB."""
    info = tarfile.TarInfo("net.h5")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = tarfile.itn(8_000_000_000, 12, tarfile.GNU_FORMAT)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header) + bytes(20_000)


FILES = {
    "overlapping TFLite buffers": (overlapping_tflite, "too large: with 200,000 bytes"),
    "h5 that declares 8 GB": (declared_h5, r"refused: too large: with conv1.* of shape \(2000000000,\)"),
    "h5 chunk of 3.6 GB": (huge_chunk_h5, "refused: too large: with a chunk of conv1"),
    "h5 chunk that inflates": (inflating_h5, "unpacks to more than it declares"),
    "h5 groups within groups": (nested_h5, "refused: more than 10,000 groups and data sets, or 30 within each other"),
    "h5 groups of many names": (knotted_h5, "refused: more than 10,000 groups"),
    "tensors of stride 0": (repeated_tensors, "conv_stem.weight of shape .* repeats the numbers that are stored"),
    "one storage for all": (shared_storage, "too large: with blocks.* of shape"),
    "record that inflates": (inflating_record, "too large: with .* unpacked"),
    "one record by many names": (one_record_by_many_names, "names the record abcdefg in several ways"),
    "bytes from a number": (bytes_from_a_number, "makes bytes of any number"),
    "many members": (many_members, "too large: with 10.h5 unpacked"),
    "member that lies": (lying_member, "damaged archive"),
    "bzip2": (squeezed_member, "net.h5 is compressed by method 12"),
    "long name in a tar": (long_name_tar, "(a header of 400 MB|empty header)"),
    "many headers in a tar": (many_headers, "more than 10,000 files"),
    "sparse tar": (sparse_tar, "too large: with net.h5 unpacked"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_small_file_that_multiplies_is_refused_in_little_memory(kind, answers):
    said, memory = answers[kind]
    assert re.search(rf"^ValueError: odd\.bin.*{FILES[kind][1]}", said), said
    assert memory < MEMORY_MB


def test_flexbuffer_keys_that_overlap_are_counted():
    data = flexbuffer_of_one_key()
    assert len(data) < 300_000
    with pytest.raises(ValueError, match="too large: with an option's name"):
        read_flexbuffer_map(data, Budget(80 * len(data)))


def test_the_largest_real_file_passes_eight_times_over():
    """Google's archive of width 1.0 has 94 MB and unpacks to little more; the widest network has 15.3 M parameters."""
    assert 8 * 94_321_559 < MAX_BYTES
    budget = Budget()
    for _ in range(8):
        budget.take(2 * 4 * 15_300_000, "a network of width 2")  # parameters, in float32, as readers count them


def test_a_file_larger_than_weights_is_not_read(tmp_path):
    path = tmp_path / "data.h5"
    with path.open("wb") as file:
        file.truncate(3 << 30)  # takes no room
    with pytest.raises(ValueError, match=r"data\.h5: too large: weights have up to 1,074 MB$"):
        read_bytes(path)


def test_compressed_files_of_a_sane_size_are_read():
    h5py = pytest.importorskip("h5py")
    layers = keras_layers(0.1, num_classes=3, seed=1)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for layer, variables in layers.items():
            for variable, array in variables.items():
                options = {"compression": "gzip", "shuffle": True, "fletcher32": True}
                file.create_dataset(f"{layer}/{layer}/{variable}:0", data=array, **options)
    found, expected = (read_weights(data, name="x").state_dict for data in (buffer.getvalue(), keras_file()))
    for name, tensor in expected.items():
        assert tensor.equal(found[name]), name
    for archive in (zipped(keras_file()), tarred(keras_file()), tarred(keras_file(), mode="w")):
        assert read_weights(archive, name="x").num_classes == 3


def linked_h5(tmp_path: Path, kind: str) -> bytes:
    """A sound file but for its first kernel, whose numbers are elsewhere."""
    import h5py

    layers = keras_layers(0.1, num_classes=3, seed=1)
    kernel = layers["conv1"].pop("kernel")
    secret = tmp_path / "secret"
    secret.write_bytes(np.random.default_rng(0).normal(size=kernel.size).astype(np.float32).tobytes())
    path = tmp_path / f"{kind}.h5"
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kernel"] = kernel
    with h5py.File(path, "w") as file:
        for layer, variables in layers.items():
            for variable, array in variables.items():
                file[f"{layer}/{layer}/{variable}:0"] = array
        if kind == "external storage":
            file.create_dataset(FIRST, kernel.shape, np.float32, external=[(str(secret), 0, kernel.nbytes)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(kernel.shape, np.float32)
            layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "kernel", kernel.shape)
            file.create_virtual_dataset(FIRST, layout)
        elif kind == "external link":
            file[FIRST] = h5py.ExternalLink(str(tmp_path / "other.h5"), "kernel")
        else:
            file["hidden"] = kernel
            file[FIRST] = h5py.SoftLink("/hidden")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("external storage", r"refused: the numbers of conv1/conv1/kernel:0 are in .*secret, weights must be in the"),
        ("virtual", "refused: the numbers of conv1/conv1/kernel:0 are in other data sets, weights must"),
        ("external link", r"refused: conv1/conv1/kernel:0 is a link to .*other\.h5:kernel, weights must"),
        ("soft link", "refused: conv1/conv1/kernel:0 is a link to /hidden, weights must"),
    ],
)
def test_numbers_outside_an_h5_file_are_refused_by_name(kind, match, tmp_path):
    pytest.importorskip("h5py")
    refused(linked_h5(tmp_path, kind), match)


def h5_whose_kernel(make) -> bytes:
    """A sound file but for its first kernel, which `make` puts into it, given the file and the array."""
    import h5py

    layers = keras_layers(0.1, num_classes=3, seed=1)
    kernel = layers["conv1"].pop("kernel")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for layer, variables in layers.items():
            for variable, array in variables.items():
                file[f"{layer}/{layer}/{variable}:0"] = array
        make(file, kernel)
    return buffer.getvalue()


H5_FAULTS = {
    "never written": (lambda f, a: f.create_dataset(FIRST, a.shape, "f4"), "not all numbers of conv1/conv1/kernel:0"),
    "chunks not written": (lambda f, a: part_of(f, a), "not all numbers of conv1/conv1/kernel:0 were written"),
    "integers": (lambda f, a: f.create_dataset(FIRST, data=a.astype("i1")), r"kernel:0 holds int8 of shape .*, not fl"),
    "references": (lambda f, a: f.create_dataset(FIRST, data=[f.ref] * 4, dtype=ref()), "holds object of shape"),
    "scalar": (lambda f, a: f.create_dataset(FIRST, data=1.0), r"holds float64 of shape \(\), not floats"),
    "nothing": (lambda f, a: f.create_dataset(FIRST, (0, 3), "f4"), r"holds float32 of shape \(0, 3\), not floats"),
}


def part_of(file: Any, array: np.ndarray) -> None:
    file.create_dataset(FIRST, array.shape, "f4", chunks=(1, *array.shape[1:]))[0] = array[0]


def ref() -> Any:
    import h5py

    return h5py.ref_dtype


@pytest.mark.parametrize("fault", H5_FAULTS)
def test_numbers_that_are_not_there_are_not_zeros(fault):
    pytest.importorskip("h5py")
    make, match = H5_FAULTS[fault]
    refused(h5_whose_kernel(make), f"refused: .*{match}")


def test_floats_of_other_machines_are_read():
    pytest.importorskip("h5py")
    expected = read_weights(keras_file(), name="x").state_dict
    for kind in (">f4", ">f8", "<f8"):
        found = read_weights(h5_whose_kernel(lambda f, a, k=kind: f.create_dataset(FIRST, data=a.astype(k))), name="x")
        assert all(tensor.equal(expected[name]) for name, tensor in found.state_dict.items()), kind


def test_a_name_that_is_not_utf_8_is_told():
    pytest.importorskip("h5py")

    def make(file: Any, array: np.ndarray) -> None:
        file[FIRST] = array
        file.id.links.create_hard(b"odd\xff", file.id, b"conv1")

    refused(h5_whose_kernel(make), r"refused: a name in it is not UTF-8 \(b'odd\\xff'\)")


def tflite_with(change) -> bytes:
    """A sound file of 8 bits, each of whose tensors `change` was given, with its index."""
    pytest.importorskip("ai_edge_litert")
    from backbone import create_backbone
    from tests.backbone.weights import tflite_files

    class Changed(tflite_files.Writer):
        def tensor(self, *args: Any, **options: Any) -> int:
            index = super().tensor(*args, **options)
            change(self.graph.tensors[index], index)
            return index

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tflite_files, "Writer", Changed)
        model = create_backbone("a010", num_classes=3, min_channels=1).eval()
        return tflite_files.write_tflite(model, 32, weights="int8")


def scaled(scale: float, zero_point: int = 0):
    def change(tensor: Any, index: int) -> None:
        if tensor.quantization is not None:
            tensor.quantization.scale[:], tensor.quantization.zeroPoint[:] = scale, zero_point

    return change


def shaped(*shape: int):
    def change(tensor: Any, index: int) -> None:
        tensor.shape = list(shape) if index == 0 else tensor.shape

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (scaled(-0.01), r"scales from -0\.0099.* not all above 0"),
        (scaled(0), r"scales from 0\.0 to 0\.0, not all above 0"),
        (scaled(float("nan")), "scales from nan"),
        (scaled(0.01, 128), r"tensor \d+ of torch.int8 has a zero point of 128"),
        (scaled(0.01, -(1 << 63)), r"has a zero point of -9223372036854775808"),
        (shaped(1, 1 << 30, 1 << 30, 3), "is no picture of three colours with sides of at most 8,192"),
        (shaped(1, 3, 32, 32), "is no picture of three colours"),
    ],
)
def test_a_tflite_file_whose_numbers_mean_nothing_is_refused(change, match):
    refused(tflite_with(change), match)


@pytest.mark.parametrize(("shape", "side"), [((1, 32, 32, 3), 32), ((1, 1, 1, 3), None), ((1, 32, 48, 3), None)])
def test_a_side_that_is_left_open_is_none(shape, side):
    assert read_weights(tflite_with(shaped(*shape)), name="x").resolution == side


def test_names_in_a_file_cannot_write_to_the_terminal():
    odd = {"conv_stem.weight\n\x1b[31mred": torch.zeros(1)}
    with pytest.raises(ValueError) as caught:
        read_weights(saved(odd), name="odd.pth")
    assert str(caught.value).isprintable()
    with pytest.raises(ValueError) as caught:
        read_weights(saved({"k" * 100_000: torch.zeros(1)}), name="odd.pth")
    assert len(str(caught.value)) < 500


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    """A namespace may stand beside the tensors, but nothing that is called, not even from inside of one."""

    class Touch:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    state_dict = timm_state_dict(num_classes=3, seed=1)
    for args in (Touch(), argparse.Namespace(inner=Touch()), argparse.Namespace(f=print)):
        for new in (True, False):
            data = saved({"state_dict": state_dict, "args": args}, _use_new_zipfile_serialization=new)
            refused(data, r"refused: it contains more than tensors \(.*\), and no code in a file is executed; .*$")
    assert not (tmp_path / "touched").exists()
