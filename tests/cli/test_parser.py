"""Parsing of arguments: versions and help without heavy imports, wrong usage with exit code 2."""

import subprocess
import sys
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keep_hf import __version__
from keep_hf.benchmark import DTYPES as MEASURED_DTYPES
from keep_hf.cli import main, parser
from keep_hf.cli.loading import DTYPES
from keep_hf.cli.output import one_line_warnings
from keep_hf.cluster.restore_videos import LONGEST_WHOLE
from keep_hf.degrade import LEVELS


COMMANDS = ("restore", "faces", "convert", "degrade", "evaluate", "benchmark", "demo")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["restore"],
        ["restore", "in.mp4"],
        ["repair", "in.mp4", "out.mp4"],
        ["restore", "in.mp4", "out.mp4", "--faces", "some"],
        ["restore", "in.mp4", "out.mp4", "--faces", "0,-1"],
        ["restore", "in.mp4", "out.mp4", "--strength", "much"],
        ["restore", "in.mp4", "out.mp4", "--person-strength", "0.5"],
        ["restore", "in.mp4", "out.mp4", "--person-strength", "0=much"],
        ["restore", "in.mp4", "out.mp4", "--person-strength", "0=1,x=0.5"],
        ["restore", "in.mp4", "out.mp4", "--person-strength", "0=1,0=0.5"],
        ["restore", "in.mp4", "out.mp4", "--upscale", "1.5"],
        ["restore", "in.mp4", "out.mp4", "--dtype", "int8"],
        ["restore", "in.mp4", "out.mp4", "--device", "toaster"],
        ["restore", "in.mp4", "out.mp4", "--device", "cuda:99"],
        ["restore", "in.mp4", "out.mp4", "--device", "cpu:x"],
        ["degrade", "in.mp4", "out.mp4", "--level", "awful"],
        ["demo", "--port", "99999"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: keep-hf" in capsys.readouterr().err


WORDS = st.one_of(
    st.text(max_size=20).filter(lambda word: word != "-h"),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["restore", "in.mp4", "out.mp4", "--faces", "--strength", "--upscale", "--crf", "--device", "--resume"]
    ),
)


@given(command=st.sampled_from(COMMANDS), words=st.lists(WORDS, max_size=8))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_any_words_are_arguments_or_wrong_usage(command, words):
    try:
        code = 0 if parser.build_parser().parse_args([command, *words]).command == command else 1
    except SystemExit as stopped:
        code = stopped.code
    assert code in (0, 2)


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"keep_hf {__version__}\n"


def test_help_imports_nothing_heavy():
    script = f"""
import sys
from keep_hf.cli import main
for arguments in [["--version"], ["--help"], *([name, "--help"] for name in {COMMANDS})]:
    try:
        main(arguments)
    except SystemExit as stopped:
        assert stopped.code == 0
heavy = {{"accelerate", "av", "cv2", "diffusers", "gradio", "matplotlib", "numpy", "torch", "transformers"}}
sys.exit(", ".join(sorted(heavy & set(sys.modules))) or 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip()
    assert all(f"usage: keep-hf {name}" in done.stdout for name in COMMANDS)


def test_choices_are_those_of_the_package():
    assert tuple(DTYPES) == parser.DTYPES
    assert tuple(MEASURED_DTYPES) == parser.BENCHMARK_DTYPES
    assert tuple(LEVELS) == parser.LEVELS


def test_arguments():
    args = parser.build_parser().parse_args(["restore", "a", "b", "--faces", "0, 2", "--device", "cpu"])
    assert args.faces == (0, 2)
    assert args.device == torch.device("cpu")
    assert parser.build_parser().parse_args(["restore", "a", "b"]).device is None


def test_warnings_are_one_line(capsys):
    with one_line_warnings():
        warnings.simplefilter("always")
        warnings.warn("The sound\n  is damaged.", stacklevel=1)
    assert capsys.readouterr().err == "keep-hf: warning: The sound is damaged.\n"


def test_short_videos_are_the_same_in_python():
    assert parser.build_parser().parse_args(["restore", "in.mp4", "out.mp4"]).longest_whole == LONGEST_WHOLE
