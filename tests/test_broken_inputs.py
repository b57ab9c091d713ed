"""A selection of the broken inputs; `python -m benchmarks.broken_inputs` runs all of them."""

import sys
from collections import Counter

import pytest

from broken_inputs.case import Case, Outcome, problems
from broken_inputs.corpus import all_cases
from broken_inputs.runner import Runner


# Each of these is a case of its own kind of error; the others are like them.
SELECTED = {
    "truncated": ("mp4, 70% kept", "fast.mp4, 70% kept", "gif, 30% kept"),
    "bit flips": ("mkv, seed 2", "fast.mp4, seed 2"),
    "odd video": ("size changes in the middle", "only audio", "times 100 days apart", "frames of 1 x 1"),
    "no video": ("text", "concat script", "fifo", "socket", "symlink to /dev/zero", "unreadable file", "/dev/null"),
    "large frames": ("16k x 16k video, 64 x 64 in the header", "64k x 64k GIF", "4k enlarged to 16k"),
    "header": ("mp4, time scale of the video: 0", "y4m, W99999999 H99999999 F25:1"),
    "image folder": ("first image is 2^31 x 2^31", "fifos named as images", "third png, 10% kept"),
    "configuration": (
        "model_index.json: nested 100,000 times",
        "vq/config.json: a list",
        "vq, sample_size: None",
        "vq, norm_num_groups: -1",
        "kalman, num_gain_layers: 10000000",
        "model_index.json: vq is os.system",
        "model_index.json: class of a module in the folder",
    ),
    "weights": ("50.00% of safetensors", "header of 2^63 bytes", "one NaN", "pickle with code in its place"),
    "checkpoint": ("code in a file of torch", "pickle nested 200,000 times", "first tensor without a dimension"),
    "model": ("device",),
    "unfinished work": (
        "nothing",
        "50% of the state",
        "50.0% of a segment",
        "wrong bits in a segment, seed 0",
        "state, content.caller_state.stream: x",
        "state with code",
    ),
    "option": ("--fidelity nan", "--frame-rate 1e300 of images"),
    "command": ("degrade over itself", "report over the video"),
    "output": ("a hard link to the source", "the report over the source", "read-only folder", "/dev/full"),
    "full disk": ("after 4000 bytes", "after 1000 bytes, folder of images"),
    "signal": ("SIGINT after 1.0 s", "SIGTERM after 0.6 s"),
}

linux = pytest.mark.skipif(sys.platform != "linux", reason="the worker reads /proc and sets limits of Linux")


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    with Runner(tmp_path_factory.mktemp("broken")) as runner:
        yield runner


def test_there_are_at_least_two_hundred_different_inputs():
    names = Counter((case.group, case.name) for case in all_cases())
    assert len(names) >= 200
    assert max(names.values()) == 1
    assert set(SELECTED) == {group for group, _ in names}


@linux
@pytest.mark.slow
@pytest.mark.parametrize("group", SELECTED)
def test_broken_inputs(runner, group):
    """One clear line, exit code 1 or 2, no traceback, no partial file, no hang, bounded memory; or the result."""
    cases = {case.name: case for case in all_cases() if case.group == group}
    wrong = {}
    for name in SELECTED[group]:
        outcome = runner.run(cases[name])
        if found := problems(cases[name], outcome):
            wrong[name] = (found, outcome.errors[-1000:])
    assert not wrong


def outcome(**changes) -> Outcome:
    fine = {"code": 1, "seconds": 1.0, "memory": 10, "errors": "keep-hf: in.mp4 is not a video, but a text.\n"}
    return Outcome(**fine | {"new_files": (), "changed_files": ()} | changes)


def test_what_is_wrong_with_an_outcome_is_found():
    case = Case("video", "text", lambda folder, samples: [])
    assert problems(case, outcome()) == []
    assert problems(case, outcome(code=2, errors="usage: keep-hf\nkeep-hf: error: no such option\n")) == []
    for changes, found in [
        ({"code": None}, "hang"),
        ({"code": -11}, "exit code -11"),
        ({"code": 0, "new_files": ("out.mp4",)}, "succeeded"),
        ({"errors": "Traceback (most recent call last):\n"}, "traceback"),
        ({"errors": ""}, "0 lines"),
        ({"errors": "keep-hf: failed\n"}, "no clear line"),
        ({"memory": 2**40}, "1048576 MiB of memory"),
        ({"new_files": ("out.mp4",)}, "partial out.mp4"),
        ({"changed_files": ("in.mp4",)}, "changed in.mp4"),
        ({"new_files": ("executed",)}, "executed code from the input"),
        ({"is_wrong": True}, "wrong result"),
    ]:
        assert found in problems(case, outcome(**changes))
