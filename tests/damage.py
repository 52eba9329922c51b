"""Ways to damage a file, each chosen by the bytes of a recipe: so that Hypothesis and a coverage-guided fuzzer, which
both make up bytes, can damage any file, in its bytes or in what stands in it.
"""

import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import onnx
import torch

ODD_NUMBERS = (0, 1, -1, 2, 255, 256, 65535, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 10**30)
ODD_VALUES = (
    *ODD_NUMBERS,
    *(
        None,
        True,
        False,
        0.5,
        -0.0,
        1e300,
        float("nan"),
        float("inf"),
        "",
        "あ",
        "ああ",
        "あいう亜腕亜",
        "\0",
        "\ud800",
    ),
    *(
        "../../etc/passwd",
        "train_vit",
        "train_qat",
        "os",
        "x" * 5000,
        "[" * 3000,
        [],
        {},
        [[]],
        {"a": {"b": {"c": {}}}},
    ),
    *([0] * 50, ["あ"], {"train": [0]}, list(range(7)), {"": None}),
)
ODD_NAMES = ("../../evil", "/etc/passwd", "data.pkl", "evil.pkl", "", "a" * 300, "漢", "con/aux", "images.npy", "..\\x")

Edit = Callable[[bytes, "Recipe"], bytes]


class Recipe:
    """Choices, made by bytes; when they are used up, every choice is the first."""

    def __init__(self, choices: bytes):
        self.choices, self.place = choices, 0

    def below(self, count: int) -> int:
        """A number from 0 to count - 1."""
        width = 1 if count <= 256 else 4
        taken = self.choices[self.place : self.place + width]
        self.place += width
        return int.from_bytes(taken, "little") % max(1, count)

    def pick(self, values):
        return values[self.below(len(values))]

    def rest(self) -> bytes:
        return self.choices[self.place :]


def odd_integer(recipe: Recipe) -> bytes:
    """A number that lengths and offsets hold seldom, in some width and order."""
    return (recipe.pick(ODD_NUMBERS) & (2**64 - 1)).to_bytes(8, "little")[: recipe.pick((1, 2, 4, 8))][
        :: recipe.pick((1, -1))
    ]


def edit_bytes(data: bytes, recipe: Recipe) -> bytes:
    """Cut, flipped, doubled, moved or overwritten at up to four places; or other bytes altogether."""
    for _ in range(1 + recipe.below(4)):
        at, length = recipe.below(len(data) + 1), recipe.pick((1, 2, 4, 16, 100, 4096))
        part, kind = data[at : at + length], recipe.below(8)
        if kind == 0:
            data = data[:at] + bytes([(part or b"\0")[0] ^ 1 << recipe.below(8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at]
        elif kind == 2:
            data = data[:at] + data[at + length :]
        elif kind == 3:
            data = data[:at] + part * recipe.pick((2, 3, 50)) + data[at + length :]
        elif kind == 4:
            number = odd_integer(recipe)
            data = data[:at] + number + data[at + len(number) :]
        elif kind == 5:
            to = recipe.below(len(data) + 1)
            data = data[:to] + part + data[to:]
        elif kind == 6:
            data = data[:at] + bytes([recipe.below(256)]) * length + data[at + length :]
        else:
            data = recipe.rest() + data[at:]
    return data


def edit_tree(value, recipe: Recipe):
    """Dicts and lists with an odd value, an entry less or doubled, or two that changed places."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    kind = recipe.below(8)
    if not keys or kind == 0:
        return recipe.pick(ODD_VALUES)
    value, key, other = value.copy(), recipe.pick(keys), recipe.pick(keys)
    if kind == 1:
        value.pop(key)
    elif kind == 2:
        value[key], value[other] = value[other], value[key]
    elif kind == 3 and isinstance(value, list):
        value.append(value[key])
    elif kind == 3:
        value[recipe.pick(ODD_NAMES)] = value[key]
    else:
        value[key] = edit_tree(value[key], recipe)
    return value


def edit_json(data: bytes, recipe: Recipe) -> bytes:
    return json.dumps(edit_tree(json.loads(data), recipe)).encode()


@lru_cache(maxsize=2)
def zip_members(data: bytes) -> tuple[tuple[str, bytes], ...]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return tuple((info.filename, archive.read(info)) for info in archive.infolist())


def edit_zip(data: bytes, recipe: Recipe) -> bytes:
    """An archive with a member damaged, renamed, lacking, doubled, or compressed; its checksums are right again."""
    members = list(zip_members(data))
    at, method = recipe.below(len(members)), zipfile.ZIP_STORED
    name, content = members[at]
    kind = recipe.below(8)
    if kind == 0:
        members[at] = (recipe.pick(ODD_NAMES), content)
    elif kind == 1:
        members.pop(at)
    elif kind == 2:
        members.append((name.rpartition("/")[0] + "/" + recipe.pick(ODD_NAMES), content))
    elif kind == 3:
        method = zipfile.ZIP_DEFLATED
    elif kind == 4:
        other = recipe.below(len(members))
        members[at], members[other] = (name, members[other][1]), (members[other][0], content)
    else:
        members[at] = (name, edit_bytes(content, recipe))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive, warnings.catch_warnings(action="ignore"):
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name or "x"), content, method)
    return written.getvalue()


def edit_arrays(data: bytes, recipe: Recipe) -> bytes:
    """An npz with an array of another type, shape or content."""
    with np.load(io.BytesIO(data)) as old:
        arrays = dict(old)
    name = recipe.pick(sorted(arrays))
    array, kind = arrays[name], recipe.below(6)
    if kind == 0:
        kinds = (np.int8, np.uint8, np.int64, np.uint64, np.float16, np.float64, bool, "U3", "S2", "M8[s]", "c8", "V4")
        arrays[name] = np.zeros(array.shape, recipe.pick(kinds))
    elif kind == 1:
        arrays[name] = array[: recipe.below(len(array) + 1)] if array.ndim else array
    elif kind == 2:
        arrays[name] = np.array(array[None].T if recipe.below(2) else array[None], order=recipe.pick("CF"))
    elif kind == 3 and array.size and array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        number = min(max(recipe.pick(ODD_NUMBERS), limits.min), limits.max)
        arrays[name] = array.copy()
        arrays[name].flat[recipe.below(array.size)] = number
    elif kind == 4:
        arrays[recipe.pick(("labels", "sets", "images", "source", "evil"))] = array
    else:
        arrays.pop(name)
    written = io.BytesIO()
    np.savez(written, **arrays)
    return written.getvalue()


def odd_tensor(tensor: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """A tensor of another type, shape, layout or size."""
    return recipe.pick(
        (
            lambda: tensor.double() if tensor.is_floating_point() else tensor.float(),
            lambda: tensor.to(torch.int8),
            lambda: tensor.flatten()[:1],
            lambda: tensor[None],
            lambda: torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else -tensor,
            lambda: torch.zeros((), dtype=tensor.dtype).expand(10 ** recipe.below(15), 3),
            lambda: torch.empty(5, device="meta"),
            lambda: torch.zeros(3).to_sparse(),
            lambda: torch.complex(torch.ones(2), torch.ones(2)),
            lambda: torch.nn.Parameter(torch.ones(2)),
        )
    )()


@lru_cache(maxsize=2)
def loaded(data: bytes) -> dict:
    return torch.load(io.BytesIO(data), weights_only=True)


def edit_checkpoint(data: bytes, recipe: Recipe) -> bytes:
    """A checkpoint, written by torch.save, with something else in it."""
    content = dict(loaded(data))
    if recipe.below(2):
        content = edit_tree(content, recipe)
    else:
        name = recipe.pick([k for k in ("model", "ema") if content.get(k)])
        tensors = content[name] = dict(content[name])
        key = recipe.pick(sorted(tensors))
        tensors[key] = odd_tensor(tensors[key], recipe)
    written = io.BytesIO()
    torch.save(content, written)
    return written.getvalue()


def edit_safetensors(data: bytes, recipe: Recipe) -> bytes:
    """A SafeTensors file with another header: of the tensors, of a fact, or of its length."""
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    kind = recipe.below(4)
    if kind == 0:
        header = edit_tree(header, recipe)
    elif kind == 1:
        text = json.dumps(header).encode()
        return odd_integer(recipe).ljust(8, b"\0") + text + rest
    else:
        facts = header["__metadata__"]
        name = recipe.pick(sorted(facts))
        value = facts[name] if name == "format" else json.loads(facts[name])
        facts[name] = recipe.pick((json.dumps, str))(edit_tree(value, recipe))
    text = json.dumps(header).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + rest


def edit_onnx(data: bytes, recipe: Recipe) -> bytes:
    """An ONNX model whose graph or metadata says something else."""
    model = onnx.load_from_string(data)
    graph, kind = model.graph, recipe.below(9)
    node, tensor = recipe.pick(graph.node), recipe.pick(graph.initializer)
    prop = recipe.pick(model.metadata_props)
    number = max(-(2**63), min(2**63 - 1, recipe.pick(ODD_NUMBERS)))
    if kind == 0:
        node.op_type = recipe.pick(
            ("Relu", "Loop", "ConstantOfShape", "Expand", "Tile", "Identity", "NoSuchThing", "If")
        )
    elif kind == 1:
        node.input[recipe.below(len(node.input))] = recipe.pick(("input_image", "logits", "", "none", tensor.name))
    elif kind == 2:
        tensor.dims[recipe.below(len(tensor.dims))] = number
    elif kind == 3:
        tensor.data_type = recipe.below(25)
    elif kind == 4:
        prop.value = recipe.pick(
            ("", "あ", "ああいうえ", "[" * 2000, "\0\0\0\0\0", "{}", "あいう亜腕", '{"split": 3}', '{"seed": []}')
        )
    elif kind == 5:
        tensor.raw_data = edit_bytes(tensor.raw_data, recipe)
    elif kind == 6:
        shape = recipe.pick((*graph.input, *graph.output)).type.tensor_type
        shape.elem_type = recipe.below(20)
    elif kind == 7:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=recipe.pick((*ODD_NAMES, "whole", "../whole")))
    else:
        model.opset_import[0].version = number
    return model.SerializeToString()


def edit_png(data: bytes, recipe: Recipe) -> bytes:
    """A PNG with a chunk damaged, lacking or doubled; its checksums are right again."""
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    place, kind = recipe.below(len(chunks)), recipe.below(4)
    name, content = chunks[place]
    if kind == 0:
        chunks.pop(place)
    elif kind == 1:
        chunks.insert(place, recipe.pick(chunks))
    elif kind == 2:
        names = (
            b"tRNS",
            b"PLTE",
            b"zTXt",
            b"iCCP",
            b"eXIf",
            b"acTL",
            b"fcTL",
            b"fdAT",
            b"IDAT",
            b"IHDR",
            b"gAMA",
            b"iTXt",
        )
        chunks.insert(place, (recipe.pick(names), recipe.rest()))
    else:
        chunks[place] = (name, edit_bytes(content, recipe))
    packed = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return data[:8] + b"".join(packed)
