"""Outputs that cannot be written, arguments that are wrong, and full disks."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2

from .case import Case
from .samples import Samples


Build = Callable[[Path, Samples], list[str]]

# Options of `restore` with values that are not allowed
WRONG_OPTIONS: list[tuple[str, ...]] = [
    *((f"--{name}", value) for name in ("fidelity", "strength") for value in ("-0.1", "1.1", "nan", "inf", "x", "")),
    *(("--upscale", value) for value in ("0", "-1", "5", "1.5", "x", "9" * 5000)),
    *(("--min-face-size", value) for value in ("-1", "nan", "x")),
    *(("--frame-rate", value) for value in ("0", "-25", "nan", "inf", "1e400", "x")),
    *(("--faces", value) for value in ("", "some", "-1", "0,", ",", "0,,1", "1.5", "²")),
    *(("--crf", value) for value in ("-1", "52", "x", "1e3")),
    *(("--video-stream", value) for value in ("-1", "1", "99", "x", "9" * 30)),
    *(("--device", value) for value in ("gpu", "cuda:99", "cpu:1", "", "cuda:-1", "cpu:²")),
    ("--codec", "av1"),
    ("--codec", "vp9"),
    ("--preset", "slowest"),
    ("--dtype", "int8"),
    ("--gain-mode", "x"),
    ("--latency", "zero"),
    ("--latency", "low", "--gain-mode", "official"),
    ("--background", "missing.pth"),
    ("--background", "."),
    ("--parser", "missing/parser"),
    ("--identity", "missing.onnx"),
    ("--detector", "missing.onnx"),
    ("--detector", "."),
    ("--report", "missing/report.json"),
    ("--report", "."),
    ("--unknown",),
]
ALLOWED_OPTIONS: list[tuple[str, ...]] = [
    ("--frame-rate", "1e-300"),
    ("--frame-rate", "1e300"),
    ("--min-face-size", "1e300"),
    ("--faces", "9" * 100),
]


def cases() -> Iterator[Case]:
    """All cases of this module."""
    for words in WRONG_OPTIONS:
        yield Case("option", " ".join(words)[:60], partial(with_options, words))
    for words in ALLOWED_OPTIONS:
        yield Case("option", " ".join(words)[:60], partial(with_options, words), None)
        yield Case("option", " ".join(words)[:60] + " of images", partial(images_with_options, words), None)
    for name, words in COMMANDS:
        yield Case("command", name, partial(with_words, words))
    for name, build, usable in OUTPUTS:
        yield Case("output", name, build, usable, privileged="read-only" not in name)
    for size in (0, 1, 100, 1000, 4000, 10_000, 20_000):
        # Frames that are finished are kept until there is space.
        limits = {"file_size": size, "kept": ("out.mp4.part", "out.part")}
        yield Case("full disk", f"after {size} bytes", full_disk, None, **limits)
        yield Case("full disk", f"after {size} bytes, folder of images", full_disk_of_images, None, **limits)
    yield Case("full disk", "report", with_report, file_size=1000)


def with_options(words: tuple[str, ...], folder: Path, samples: Samples) -> list[str]:
    return samples.restore_to(samples.video("mp4"), folder / "out.mp4", *words)


def images_with_options(words: tuple[str, ...], folder: Path, samples: Samples) -> list[str]:
    (folder / "in").mkdir()
    for index, image in enumerate(samples.images):
        cv2.imwrite(str(folder / "in" / f"{index}.png"), image)
    return samples.restore(folder / "in", *words)


def with_words(words: tuple[str, ...], folder: Path, samples: Samples) -> list[str]:
    (folder / "in.mp4").write_bytes(samples.read("mp4"))
    (folder / "text.txt").write_text("text")
    return [str(samples.model) if word == "MODEL" else word for word in words]


COMMANDS: list[tuple[str, tuple[str, ...]]] = [
    ("none", ()),
    ("unknown", ("repair",)),
    ("restore without files", ("restore",)),
    ("restore without an output", ("restore", "in.mp4")),
    ("restore with three files", ("restore", "in.mp4", "out.mp4", "other.mp4")),
    ("restore a text", ("restore", "text.txt", "out.mp4", "--model", "MODEL")),
    ("faces of a text", ("faces", "text.txt", "--model", "MODEL")),
    ("faces of nothing", ("faces", "missing.mp4", "--model", "MODEL")),
    ("sheet of faces as text", ("faces", "in.mp4", "--sheet", "out.txt", "--model", "MODEL")),
    ("sheet of faces over the video", ("faces", "in.mp4", "--sheet", "in.mp4", "--model", "MODEL")),
    ("degrade a text", ("degrade", "text.txt", "out.mp4")),
    ("degrade over itself", ("degrade", "in.mp4", "in.mp4")),
    ("degrade with a negative seed", ("degrade", "in.mp4", "out.mp4", "--seed", "-1")),
    ("degrade into a missing folder", ("degrade", "in.mp4", "missing/out.mp4")),
    ("evaluate a text", ("evaluate", "text.txt", "in.mp4", "--model", "MODEL")),
    ("evaluate against a text", ("evaluate", "in.mp4", "text.txt", "--model", "MODEL")),
    ("evaluate without a network", ("evaluate", "in.mp4", "in.mp4", "--identity", "missing.onnx", "--model", "MODEL")),
    ("report over the video", ("evaluate", "in.mp4", "in.mp4", "--report", "in.mp4", "--model", "MODEL")),
    ("benchmark of no frames", ("benchmark", "--frames", "0", "--model", "MODEL")),
    ("benchmark of no people", ("benchmark", "--people", "-1", "--frames", "1", "--model", "MODEL")),
    ("convert into a file", ("convert", "text.txt", "in.mp4")),
]


def over_itself(folder: Path, samples: Samples) -> list[str]:
    (folder / "in.mp4").write_bytes(samples.read("mp4"))
    return samples.restore_to(folder / "in.mp4", folder / "in.mp4")


def over_a_link(link: str, folder: Path, samples: Samples) -> list[str]:
    (folder / "in.mp4").write_bytes(samples.read("mp4"))
    if link == "hard":
        os.link(folder / "in.mp4", folder / "out.mp4")
    else:
        (folder / "out.mp4").symlink_to("in.mp4")
    return samples.restore(folder / "in.mp4")


def prepared(prepare: Callable[[Path], object], name: str, folder: Path, samples: Samples) -> list[str]:
    prepare(folder)
    return samples.restore_to(samples.video("mp4"), folder / name)


def report_over(name: str, folder: Path, samples: Samples) -> list[str]:
    (folder / "in.mp4").write_bytes(samples.read("mp4"))
    return samples.restore(folder / "in.mp4", "--report", folder / name)


def nothing(folder: Path) -> None:
    pass


def read_only(name: str) -> Callable[[Path], object]:
    return lambda folder: ((folder / name).mkdir(), (folder / name).chmod(0o500))


OUTPUTS: list[tuple[str, Build, bool | None]] = [
    ("the source itself", over_itself, False),
    ("a hard link to the source", partial(over_a_link, "hard"), False),
    ("a symlink to the source", partial(over_a_link, "soft"), False),
    ("the report over the source", partial(report_over, "in.mp4"), False),
    ("the report over the output", partial(report_over, "out.mp4"), False),
    ("a folder", partial(prepared, lambda folder: (folder / "out.mp4").mkdir(), "out.mp4"), False),
    (
        "a folder with files",
        partial(prepared, lambda folder: ((folder / "out").mkdir(), (folder / "out/a").touch()), "out"),
        False,
    ),
    ("beneath a file", partial(prepared, lambda folder: (folder / "file").touch(), "file/out.mp4"), False),
    (
        "beneath a symlink loop",
        partial(prepared, lambda folder: (folder / "loop").symlink_to("loop"), "loop/out.mp4"),
        False,
    ),
    (
        "beneath /dev/null",
        lambda folder, samples: samples.restore_to(samples.video("mp4"), Path("/dev/null/out.mp4")),
        False,
    ),
    ("/dev/full", lambda folder, samples: samples.restore_to(samples.video("mp4"), Path("/dev/full")), False),
    ("standard output", lambda folder, samples: samples.restore_to(samples.video("mp4"), Path("-")), False),
    ("empty name", lambda folder, samples: samples.restore_to(samples.video("mp4"), Path("")), False),
    ("unknown suffix", partial(prepared, nothing, "out.xyz"), False),
    ("suffix of an image", partial(prepared, nothing, "out.png"), False),
    ("name of 300 bytes", partial(prepared, nothing, "x" * 296 + ".mp4"), False),
    ("fifo", partial(prepared, lambda folder: os.mkfifo(folder / "out.mp4"), "out.mp4"), None),
    (
        "symlink to nothing",
        partial(prepared, lambda folder: (folder / "out.mp4").symlink_to("other.mp4"), "out.mp4"),
        None,
    ),
    (
        "file in the place of the unfinished folder",
        partial(prepared, lambda folder: (folder / "out.mp4.part").touch(), "out.mp4"),
        False,
    ),
    (
        "symlink loop in the place of the unfinished folder",
        partial(prepared, lambda folder: (folder / "out.mp4.part").symlink_to("out.mp4.part"), "out.mp4"),
        False,
    ),
    (
        "foreign files in the unfinished folder",
        partial(
            prepared,
            lambda folder: ((folder / "out.mp4.part").mkdir(), (folder / "out.mp4.part/a").touch()),
            "out.mp4",
        ),
        False,
    ),
    ("read-only folder", partial(prepared, read_only("a"), "a/out.mp4"), False),
    ("new folder in a read-only folder", partial(prepared, read_only("a"), "a/b/out.mp4"), False),
    ("read-only unfinished folder", partial(prepared, read_only("out.mp4.part"), "out.mp4"), False),
    (
        "URL",
        lambda folder, samples: samples.restore_to(samples.video("mp4"), Path("https://example.com/out.mp4")),
        False,
    ),
]


def full_disk(folder: Path, samples: Samples) -> list[str]:
    return samples.restore_to(samples.video("mp4"), folder / "out.mp4")


def full_disk_of_images(folder: Path, samples: Samples) -> list[str]:
    return samples.restore_to(samples.video("mp4"), folder / "out")


def with_report(folder: Path, samples: Samples) -> list[str]:
    """The first thing that is written is the report: an evaluation writes no video."""
    arguments = ["evaluate", samples.video("mp4"), "--report", folder / "out.json", "--model", samples.model]
    return [str(argument) for argument in arguments]
