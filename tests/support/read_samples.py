"""Opens model files with the formats' own libraries and prints `ok FILE` for each that can be read whole.

Usage: read_samples.py PATH...      a PATH is a file or a folder, which is walked
Exit code 1 when any file cannot be read; the reason is on stderr. Nothing in a pickle is ever run.
"""

import mmap
import os
import pickletools
import sys
import zipfile

import numpy
from gguf import GGUFReader
from safetensors import safe_open

SUFFIXES = (".safetensors", ".sft", ".gguf", ".pt", ".pth", ".ckpt", ".bin")
# Dtypes that numpy has; of the others only the place in the file is looked at.
NUMPY_DTYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL"}


def read_safetensors(path):
    with safe_open(path, framework="np") as opened:
        names = list(opened.keys())
        if not names:
            raise ValueError("no tensors")
        for name in names:
            part = opened.get_slice(name)
            if part.get_dtype() in NUMPY_DTYPES:
                tensor = opened.get_tensor(name)
                if list(tensor.shape) != part.get_shape():
                    raise ValueError(f"{name} has another shape than its header says")
    # Some applications map the file themselves.
    mapped = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    length = int.from_bytes(mapped[:8].tobytes(), "little")
    if mapped[8] != ord("{") or 8 + length > mapped.size:
        raise ValueError("the mapped header is not the one that was read")
    numpy.add.reduce(mapped, dtype=numpy.uint64)


def read_gguf(path):
    reader = GGUFReader(path)
    if not reader.tensors or "general.architecture" not in reader.fields:
        raise ValueError("no tensors, or no architecture")
    for tensor in reader.tensors:
        # Touches every page of the mapping.
        numpy.add.reduce(tensor.data.reshape(-1).view(numpy.uint8), dtype=numpy.uint64)


def read_torch(path):
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged:
            raise ValueError(f"{damaged} is damaged")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("not what torch writes")
        with archive.open(pickles[0]) as opened:
            operations = [operation.name for operation, _, _ in pickletools.genops(opened.read())]
        if operations[-1] != "STOP":
            raise ValueError("the pickle does not end")
        stored = [name for name in archive.namelist() if "/data/" in name]
        if operations.count("BINPERSID") < len(stored):
            raise ValueError("there are weights that the pickle does not name")
    with open(path, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        if mapped[:2] != b"PK":
            raise ValueError("the mapping is another file")


def reader_of(path):
    name = path.lower()
    if name.endswith((".safetensors", ".sft")):
        return read_safetensors
    if name.endswith(".gguf"):
        return read_gguf
    return read_torch


def files_of(path):
    if not os.path.isdir(path):
        yield path
        return
    for folder, _, names in sorted(os.walk(path)):
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES):
                yield os.path.join(folder, name)


def main(paths):
    failed = False
    read = 0
    for path in paths:
        for file in files_of(path):
            read += 1
            try:
                reader_of(file)(file)
                print(f"ok {file}")
            except Exception as error:  # Each library has its own errors; all mean the same here.
                failed = True
                print(f"failed {file}: {type(error).__name__}: {error}", file=sys.stderr)
    if read == 0:
        print("failed: there is no model file in what was named", file=sys.stderr)
    return 1 if failed or read == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
