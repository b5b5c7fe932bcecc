"""Writes the sample models once more, with the formats' own libraries.

Usage: write_samples.py SOURCE TARGET      SOURCE is a flat folder of samples (`examples/samples --flat`)
Names, shapes, dtypes and metadata are read from SOURCE with those libraries; the weights are new. So an import is
checked with files that no code of this project has laid out. torch itself is not needed: what it writes is a ZIP around
a pickle, and both are of Python's standard library.
"""

import collections
import io
import os
import pickle
import sys
import types
import zipfile
import zlib

import numpy
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from safetensors import TensorSpec, safe_open, serialize_file
from safetensors.numpy import save_file

# Names of dtypes: in a safetensors header, in numpy, and in the library's own serialiser.
DTYPES = {
    "F64": ("float64", "float64", 8),
    "F32": ("float32", "float32", 4),
    "F16": ("float16", "float16", 2),
    "BF16": (None, "bfloat16", 2),
    "F8_E4M3": (None, "float8_e4m3fn", 1),
    "I64": ("int64", "int64", 8),
}


def noise(name, length):
    """Bytes that are the same every time for one name."""
    return numpy.random.default_rng(zlib.crc32(name.encode())).bytes(length)


def values(shape):
    return int(numpy.prod(shape, dtype=numpy.int64))


def write_safetensors(source, target):
    tensors = {}
    with safe_open(source, framework="np") as opened:
        metadata = opened.metadata()
        for name in opened.keys():
            part = opened.get_slice(name)
            tensors[name] = (part.get_dtype(), part.get_shape())
    if all(DTYPES[dtype][0] for dtype, _ in tensors.values()):
        arrays = {}
        for name, (dtype, shape) in tensors.items():
            word, _, size = DTYPES[dtype]
            arrays[name] = numpy.frombuffer(noise(name, values(shape) * size), dtype=word).reshape(shape)
        save_file(arrays, target, metadata=metadata)
        return
    # numpy has no 8-bit and no brain floats; the serialiser below it takes addresses of bytes, which must stay alive.
    kept = []
    parts = {}
    for name, (dtype, shape) in tensors.items():
        _, word, size = DTYPES[dtype]
        kept.append(numpy.frombuffer(noise(name, values(shape) * size), dtype=numpy.uint8))
        parts[name] = TensorSpec(dtype=word, shape=shape, data_ptr=kept[-1].ctypes.data, data_len=kept[-1].nbytes)
    serialize_file(parts, target, metadata=metadata)


def write_gguf(source, target):
    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    add = {
        GGUFValueType.UINT32: writer.add_uint32,
        GGUFValueType.INT32: writer.add_int32,
        GGUFValueType.FLOAT32: writer.add_float32,
        GGUFValueType.BOOL: writer.add_bool,
        GGUFValueType.STRING: writer.add_string,
        GGUFValueType.ARRAY: writer.add_array,
    }
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            add[field.types[0]](key, field.contents())
    for tensor in reader.tensors:
        fresh = numpy.frombuffer(noise(tensor.name, tensor.data.nbytes), dtype=tensor.data.dtype)
        writer.add_tensor(tensor.name, fresh.reshape(tensor.data.shape), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# What a pickle of torch names, so that this pickle names the same.
def _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks):
    return Tensor(storage, size, stride)


_rebuild_tensor_v2.__module__ = "torch._utils"
torch = types.ModuleType("torch")
torch._utils = types.ModuleType("torch._utils")
torch._utils._rebuild_tensor_v2 = _rebuild_tensor_v2
for word in ("FloatStorage", "HalfStorage", "BFloat16Storage", "LongStorage"):
    setattr(torch, word, type(word, (), {"__module__": "torch"}))
sys.modules["torch"] = torch
sys.modules["torch._utils"] = torch._utils
# Whole modules are saved as objects of these classes.
CLASSES = {
    ("ultralytics.nn.tasks", "DetectionModel"),
    ("ultralytics.nn.modules.head", "Detect"),
    ("torch.nn.modules.container", "Sequential"),
    ("torch.nn.modules.conv", "Conv2d"),
}
for module, word in CLASSES:
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        sys.modules.setdefault(name, types.ModuleType(name))
    setattr(sys.modules[module], word, type(word, (), {"__module__": module}))
STORAGE_BYTES = {"FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8}


class Storage:
    def __init__(self, kind, count):
        self.kind = kind
        self.count = count


class Tensor:
    def __init__(self, storage, size, stride):
        self.storage = storage
        self.size = size
        self.stride = stride

    def __reduce_ex__(self, protocol):
        arguments = (self.storage, 0, self.size, self.stride, False, collections.OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


class Unpickler(pickle.Unpickler):
    ALLOWED = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2")} | CLASSES

    def find_class(self, module, name):
        if (module, name) in self.ALLOWED or (module == "torch" and name in STORAGE_BYTES):
            return getattr(sys.modules[module], name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a sample")

    def persistent_load(self, reference):
        _, kind, _, _, count = reference
        return Storage(kind, count)


class Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = []

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        self.storages.append(value)
        return ("storage", value.kind, str(len(self.storages) - 1), "cpu", value.count)


def write_torch(source, target):
    with zipfile.ZipFile(source) as archive:
        value = Unpickler(io.BytesIO(archive.read("archive/data.pkl"))).load()
    pickled = io.BytesIO()
    pickler = Pickler(pickled)
    pickler.dump(value)
    root = os.path.splitext(os.path.basename(target))[0]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{root}/data.pkl", pickled.getvalue())
        archive.writestr(f"{root}/byteorder", "little")
        for key, storage in enumerate(pickler.storages):
            size = storage.count * STORAGE_BYTES[storage.kind.__name__]
            archive.writestr(f"{root}/data/{key}", noise(f"{root}/{key}", size))
        archive.writestr(f"{root}/version", "3\n")


WRITERS = {
    ".safetensors": write_safetensors,
    ".gguf": write_gguf,
    ".pt": write_torch,
    ".pth": write_torch,
    ".ckpt": write_torch,
    ".bin": write_torch,
}


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    source, target = arguments
    os.makedirs(target, exist_ok=True)
    for name in sorted(os.listdir(source)):
        writer = WRITERS.get(os.path.splitext(name)[1])
        if writer is None:
            print(f"left out, because none of these libraries writes it: {name}", file=sys.stderr)
            continue
        writer(os.path.join(source, name), os.path.join(target, name))
        print(f"ok {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
