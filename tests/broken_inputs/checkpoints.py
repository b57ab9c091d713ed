"""Broken models: folders of pipelines with damaged weights and configurations, and checkpoint files for `convert`."""

import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .case import EXECUTED, Case
from .samples import Samples


WEIGHTS = "diffusion_pytorch_model.safetensors"
NAN, INFINITY = float("nan"), float("inf")
# Component, setting, and the values in the place of the right one
SETTINGS: list[tuple[str, str, tuple[Any, ...]]] = [
    ("vq", "sample_size", ("64", -64, 0, 1.5, None, 10**9, [64], 63, NAN)),
    ("vq", "block_out_channels", ([], [0], ["a"], 16, {}, [16] * 100, [10**12, 32])),
    ("vq", "norm_num_groups", (0, -1, 7, 10**9)),
    ("vq", "num_codes", (0, -1, 10**12, "x")),
    ("vq", "transformer_num_heads", (0, 3, -2)),
    ("vq", "fusion_sizes", ([7], ["16"], None, [10**9])),
    ("vq", "_class_name", ("system", "", None, 5, "../../os", "GMFlow")),
    ("kalman", "head_dim", (0, -8, 10**10)),
    ("kalman", "num_gain_layers", (-1, 10**7, "1")),
    ("flow", "num_layers", (0, -1, 10**6)),
    ("detector", "close_up_size", (0, 1, -96, 10**9)),
    ("detector", "threshold", ("high", NAN)),
]
JSON_TEXTS: list[tuple[str, str]] = [
    ("empty", ""),
    ("null", "null"),
    ("a list", "[]"),
    ("a number", "5"),
    ("not closed", '{"_class_name": "KeepPipeline"'),
    ("nested 100,000 times", "[" * 100_000),
    ("an object nested 100,000 times", '{"a":' * 100_000),
    ("a number of 10,000 digits", '{"gain_window": ' + "9" * 10_000 + "}"),
    ("no text", "\x00\x01\x02"),
    ("without a class", "{}"),
]


def cases() -> Iterator[Case]:
    """All cases of this module."""
    for name, content in JSON_TEXTS:
        yield Case("configuration", f"model_index.json: {name}", partial(with_text, "model_index.json", content))
        yield Case("configuration", f"vq/config.json: {name}", partial(with_text, "vq/config.json", content))
    for component, setting, values in SETTINGS:
        for value in values:
            name = f"{component}, {setting}: {str(value)[:20]}"
            yield Case("configuration", name, partial(with_setting, component, setting, value), None)
    for name, change in INDEX_CHANGES:
        yield Case("configuration", f"model_index.json: {name}", partial(with_index, change), None)
    yield Case("configuration", "vq, sample_size twice, the second wrong", duplicate_key)
    for name, change in FILE_CHANGES:
        yield Case("weights", name, partial(with_file, change))
    for name, change in TENSOR_CHANGES:
        # The real part of complex numbers is used.
        yield Case("weights", name, partial(with_tensors, change), None if name == "one complex" else False)
    for name, write in CHECKPOINTS:
        yield Case("checkpoint", name, partial(converted, write))
    for name, model in MODELS:
        yield Case("model", name, partial(named_model, model))


# Pipelines


def restore_with(folder: Path, samples: Samples, model: object) -> list[str]:
    arguments = samples.restore_to(samples.video("mp4"), folder / "out.mp4")
    arguments[arguments.index("--model") + 1] = str(model)
    return arguments


def with_text(name: str, content: str, folder: Path, samples: Samples) -> list[str]:
    model = samples.copy_model(folder / "model")
    (model / name).write_text(content)
    return restore_with(folder, samples, model)


def with_setting(component: str, setting: str, value: Any, folder: Path, samples: Samples) -> list[str]:
    model = samples.copy_model(folder / "model")
    path = model / component / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {setting: value}))
    return restore_with(folder, samples, model)


def duplicate_key(folder: Path, samples: Samples) -> list[str]:
    model = samples.copy_model(folder / "model")
    path = model / "vq" / "config.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + ', "sample_size": -1}')
    return restore_with(folder, samples, model)


def with_index(change: dict[str, Any], folder: Path, samples: Samples) -> list[str]:
    model = samples.copy_model(folder / "model")
    path = model / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (model / "payload.py").write_text(f"open({str(folder / EXECUTED)!r}, 'w')\n")
    return restore_with(folder, samples, model)


INDEX_CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("vq of a module in the folder", {"vq": ["payload", "KeepVQModel"]}),
    ("class of a module in the folder", {"_class_name": ["payload", "KeepPipeline"]}),
    ("vq is os.system", {"vq": ["os", "system"]}),
    ("vq is missing", {"vq": [None, None]}),
    ("vq is text", {"vq": "KeepVQModel"}),
    ("vq is a gain network", {"vq": ["keep_hf", "KalmanGainNetwork"]}),
    ("flow is missing", {"flow": [None, None]}),
    ("unknown component", {"decoder": ["keep_hf", "KeepVQModel"]}),
    ("class of diffusers", {"_class_name": "StableDiffusionPipeline"}),
    ("unknown class", {"_class_name": "Unknown"}),
    ("gain_window 0", {"gain_window": 0}),
    ("gain_window -4", {"gain_window": -4}),
    ("gain_window of text", {"gain_window": "many"}),
    ("gain_window null", {"gain_window": None}),
    ("gain_window 10^9", {"gain_window": 10**9}),
    ("fidelity of text", {"fidelity": "high"}),
    ("fidelity NaN", {"fidelity": NAN}),
    ("fidelity 7", {"fidelity": 7}),
]


def with_file(change: Callable[[Path, Path], None], folder: Path, samples: Samples) -> list[str]:
    """`change` gets the file of the weights of the face model, and the folder of the case."""
    model = samples.copy_model(folder / "model")
    change(model / "vq" / WEIGHTS, folder)
    return restore_with(folder, samples, model)


def cut(kept: float, path: Path, folder: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])


def write_header(length: int, header: bytes, path: Path, folder: Path) -> None:
    path.write_bytes(struct.pack("<Q", length) + header)


def flip_bits(path: Path, folder: Path) -> None:
    content, chance = bytearray(path.read_bytes()), random.Random(0)
    for _ in range(100):
        content[chance.randrange(2000)] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def write_pointer(path: Path, folder: Path) -> None:
    """What a clone without Git LFS has in place of the file."""
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def replace_by_folder(path: Path, folder: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pickle(path: Path, folder: Path) -> None:
    """A file of torch, which diffusers would read in its place."""
    path.unlink()
    write_code(path.with_name("diffusion_pytorch_model.bin"), folder)


HUGE_TENSOR = b'{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4000000000000000000]}}'
FILE_CHANGES: list[tuple[str, Callable[[Path, Path], None]]] = [
    *((f"{kept:.2%} of safetensors", partial(cut, kept)) for kept in (0, 0.0001, 0.01, 0.5, 0.999)),
    ("header of 0 bytes", partial(write_header, 0, b"")),
    ("header of 2^63 bytes", partial(write_header, 2**63 - 1, b"{}")),
    ("header of 100 MB in a file of 10 bytes", partial(write_header, 100_000_000, b"{}")),
    ("header of 2 bytes without tensors", partial(write_header, 2, b"{}")),
    ("header of text", partial(write_header, 5, b"hello")),
    ("header with a tensor of 4 exabytes", partial(write_header, len(HUGE_TENSOR), HUGE_TENSOR)),
    ("bits of the header", flip_bits),
    ("text", write_pointer),
    ("missing", lambda path, folder: path.unlink()),
    ("folder in its place", replace_by_folder),
    ("pickle with code in its place", replace_by_pickle),
]


def with_tensors(change: Callable[[dict[str, torch.Tensor]], None], folder: Path, samples: Samples) -> list[str]:
    model = samples.copy_model(folder / "model")
    path = model / "vq" / WEIGHTS
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return restore_with(folder, samples, model)


def fill(value: float, tensors: dict[str, torch.Tensor]) -> None:
    for tensor in tensors.values():
        tensor.fill_(value)


def change_one(change: Callable[[torch.Tensor], torch.Tensor], tensors: dict[str, torch.Tensor]) -> None:
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    tensors[name] = change(tensors[name]).contiguous()


def remove_one(tensors: dict[str, torch.Tensor]) -> None:
    tensors.pop(next(iter(tensors)))


def rename_all(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors):
        tensors[f"module.{name}"] = tensors.pop(name)


def put(place: int, value: float, tensor: torch.Tensor) -> torch.Tensor:
    tensor.view(-1)[place] = value
    return tensor


TENSOR_CHANGES: list[tuple[str, Callable[[dict[str, torch.Tensor]], None]]] = [
    ("all NaN", partial(fill, NAN)),
    ("all infinite", partial(fill, INFINITY)),
    ("one NaN", partial(change_one, partial(put, 0, NAN))),
    ("one infinite", partial(change_one, partial(put, -1, -INFINITY))),
    ("one transposed", partial(change_one, lambda tensor: tensor.permute(3, 2, 1, 0))),
    ("one without elements", partial(change_one, lambda tensor: tensor[:0])),
    ("one of no dimension", partial(change_one, lambda tensor: tensor.flatten()[0])),
    ("one complex", partial(change_one, lambda tensor: tensor.to(torch.complex64))),
    ("one missing", remove_one),
    ("other names", rename_all),
    ("no tensors", lambda tensors: tensors.clear()),
]


# Checkpoint files


class Code:
    """Its pickle writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


def write_code(path: Path, folder: Path) -> None:
    torch.save({"params_ema": {"generator.blocks.0.weight": Code(folder / EXECUTED)}}, path)


def write_plain_pickle(path: Path, folder: Path) -> None:
    path.write_bytes(pickle.dumps(Code(folder / EXECUTED)))


def converted(write: Callable[[Path, Path], object], folder: Path, samples: Samples) -> list[str]:
    path = folder / "checkpoint.pth"
    write(path, folder)
    return ["convert", str(path), str(folder / "out")]


def save(content: object, path: Path, folder: Path) -> None:
    torch.save(content, path)


def damage_zip(path: Path, folder: Path) -> None:
    torch.save({"generator.blocks.0.weight": torch.arange(1000.0)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def cut_zip(path: Path, folder: Path) -> None:
    torch.save({"generator.blocks.0.weight": torch.arange(1000.0)}, path)
    cut(0.6, path, folder)


def zip_bomb(path: Path, folder: Path) -> None:
    """A gigabyte of zeros in a megabyte, where torch expects its pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as file:
        for _ in range(256):
            file.write(bytes(2**22))


def nested_pickle(path: Path, folder: Path) -> None:
    path.write_bytes(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")


FIRST = "generator.blocks.0.weight"
CHECKPOINTS: list[tuple[str, Callable[[Path, Path], object]]] = [
    ("empty", lambda path, folder: path.touch()),
    ("text", lambda path, folder: path.write_text("Not Found")),
    ("noise", lambda path, folder: path.write_bytes(random.Random(0).randbytes(10_000))),
    ("folder", lambda path, folder: path.mkdir()),
    ("fifo", lambda path, folder: os.mkfifo(path)),
    ("symlink loop", lambda path, folder: path.symlink_to(path)),
    ("code in a file of torch", write_code),
    ("code in a pickle", write_plain_pickle),
    ("pickle nested 200,000 times", nested_pickle),
    ("zip with a wrong checksum", damage_zip),
    ("60% of a zip", cut_zip),
    ("zip bomb", zip_bomb),
    ("zip of other files", lambda path, folder: zipfile.ZipFile(path, "w").writestr("a.txt", "a")),
    ("a number", partial(save, 5)),
    ("a list of tensors", partial(save, [torch.zeros(2)])),
    ("no tensors", partial(save, {})),
    ("text for tensors", partial(save, {FIRST: "a"})),
    ("numbers for names", partial(save, {5: torch.zeros(2)})),
    ("other tensors", partial(save, {"weight": torch.zeros(2)})),
    ("only the first tensor", partial(save, {FIRST: torch.zeros(4, 3, 3, 3)})),
    ("first tensor without a dimension", partial(save, {FIRST: torch.zeros(())})),
    ("only GMFlow's first tensor", partial(save, {"backbone.conv1.weight": torch.zeros(2, 3, 7, 7)})),
    ("integers", partial(save, {FIRST: torch.zeros(4, 3, 3, 3, dtype=torch.int64)})),
    ("wrapped 3 times", partial(save, {"params_ema": {"params": {"model": {FIRST: torch.zeros(2)}}}})),
]


def named_model(name: str, folder: Path, samples: Samples) -> list[str]:
    (folder / "empty").mkdir()
    (folder / "text.txt").write_text("text")
    return restore_with(folder, samples, name.replace("FOLDER", str(folder)))


MODELS: list[tuple[str, str]] = [
    ("unknown name", "keep-medium"),
    ("empty name", ""),
    ("empty folder", "FOLDER/empty"),
    ("missing folder", "FOLDER/missing"),
    ("text file", "FOLDER/text.txt"),
    ("missing checkpoint", "FOLDER/missing.pth"),
    ("repository that is not in the cache", "owner/model"),
    ("name of no repository", "a/b/c/d"),
    ("name with spaces", "my model"),
    ("device", "/dev/null"),
]
