"""Restoration options: one set of names and defaults for every public call, and messages for invalid values."""

import inspect
import re
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keep_hf import KeepPipeline, restore_dataset, restore_videos
from keep_hf.options import EncodingOptions, RestorationOptions


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.binary(),
    st.lists(st.integers() | st.floats() | st.text()),
    st.dictionaries(st.text(), st.integers()),
    st.sampled_from(["all", "largest", "auto", "low", "normal", "stream", "official", "h264", "medium"]),
    st.just(np.zeros(3)),
    st.floats(width=32).map(np.float32),
    st.just(object()),
)
# These are used as they are: any value is true or false, and the background is called.
UNCHECKED = ("aligned", "background")


@pytest.mark.parametrize("options", [RestorationOptions, EncodingOptions])
@given(data=st.data())
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_any_value_is_allowed_or_named(options, data):
    option = data.draw(st.sampled_from([field.name for field in fields(options) if field.name not in UNCHECKED]))
    value = data.draw(VALUES)
    try:
        options(**{option: value})
        message = ""
    except ValueError as error:
        message = str(error)
    assert message == "" or message.startswith(f"{option} must")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("faces", "some"),
        ("faces", (0, -1)),
        ("faces", ()),
        ("faces", [True]),
        ("faces", [0.5]),
        ("min_face_size", -1),
        ("min_face_size", float("nan")),
        ("fidelity", 1.5),
        ("fidelity", float("nan")),
        ("fidelity", "high"),
        ("strength", -0.1),
        ("strength", "much"),
        ("person_strength", [0.5]),
        ("person_strength", {-1: 0.5}),
        ("person_strength", {True: 0.5}),
        ("person_strength", {"1": 0.5}),
        ("person_strength", {0: 0.5, 1: 1.5}),
        ("person_strength", {0: "much"}),
        ("upscale", 5),
        ("upscale", 1.5),
        ("upscale", True),
        ("upscale", 2.0),
        ("gain_mode", "forward"),
        ("latency", "lowest"),
        ("frame_rate", 0),
        ("frame_rate", float("inf")),
        ("frame_rate", 1e-4),
        ("frame_rate", 1e5),
    ],
)
def test_an_invalid_value_is_named(option, value):
    with pytest.raises(ValueError, match=rf"^{option} must.*{re.escape(str(value))}"):
        RestorationOptions(**{option: value})


def test_official_windows_have_no_low_latency():
    with pytest.raises(ValueError, match=r"^latency must be 'normal' with gain_mode='official'"):
        RestorationOptions(latency="low", gain_mode="official")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("faces", "largest"),
        ("fidelity", None),
        ("fidelity", 0),
        ("strength", "auto"),
        ("strength", 0.5),
        ("upscale", 4),
        ("frame_rate", 1e-3),
    ],
)
def test_a_valid_value_is_kept(option, value):
    assert getattr(RestorationOptions(**{option: value}), option) == value


@pytest.mark.parametrize("faces", [[2, 0], (2, 0), np.array([2, 0]), [np.int64(2), np.uint8(0)]])
def test_numbers_of_tracks_become_integers(faces):
    numbers = RestorationOptions(faces=faces).faces
    assert numbers == (2, 0)
    assert all(type(number) is int for number in numbers)


def test_numbers_of_numpy_become_plain():
    values = {"min_face_size": np.float64(40), "fidelity": np.float32(0.5), "strength": np.float16(0.5)}
    options = RestorationOptions(**values, upscale=np.int64(2), frame_rate=np.float32(30))
    assert {name: type(getattr(options, name)) for name in values} == dict.fromkeys(values, float)
    assert (type(options.upscale), type(options.frame_rate)) == (int, float)
    assert options == RestorationOptions(min_face_size=40, fidelity=0.5, strength=0.5, upscale=2, frame_rate=30)
    assert type(EncodingOptions(crf=np.uint8(18)).crf) is int


def test_official_mode_blends_nothing_unless_it_is_asked_to():
    assert RestorationOptions().fixed_strength() is None
    assert RestorationOptions(gain_mode="official").fixed_strength() == 1
    assert RestorationOptions(gain_mode="official", strength=0.5).fixed_strength() == 0.5


def test_people_have_strengths_of_their_own():
    given = {np.int64(2): 0, 1: "auto", 0: np.float32(0.5)}
    options = RestorationOptions(strength=0.75, person_strength=given)
    assert options.person_strength == {0: 0.5, 1: "auto", 2: 0.0}
    assert list(options.person_strength) == [0, 1, 2]
    assert all(type(number) is int for number in options.person_strength)
    assert [options.fixed_strength(person) for person in range(4)] == [0.5, None, 0, 0.75]
    official = RestorationOptions(gain_mode="official", person_strength={1: 0.5})
    assert [official.fixed_strength(person) for person in (0, 1)] == [1, 0.5]
    assert RestorationOptions(person_strength={}) == RestorationOptions()


def test_strengths_are_for_people_who_are_restored():
    with pytest.raises(ValueError, match=r"^person_strength must .*\{1: 0.5\}"):
        RestorationOptions(person_strength={1: 0.5}, faces=[0, 2])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("faces", "largest"),
        ("faces", [0]),
        ("min_face_size", 40),
        ("person_strength", {1: 0.5}),
        ("upscale", 2),
        ("background", np.flip),
    ],
)
def test_aligned_faces_have_no_options_of_whole_frames(option, value):
    with pytest.raises(ValueError, match=rf"^{option} must be left out with aligned=True, .* got "):
        RestorationOptions(aligned=True, **{option: value})
    assert RestorationOptions(aligned=True, strength=0.5, fidelity=0, latency="low", frame_rate=30).aligned


CALLS = (KeepPipeline.__call__, KeepPipeline.restore_video, KeepPipeline.stream, restore_videos, restore_dataset)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_public_calls_have_the_same_options_and_defaults(call):
    assert_has_options(call, [field.name for field in fields(RestorationOptions)])


def test_follow_has_the_options_of_detection():
    assert_has_options(KeepPipeline.follow, ["faces", "min_face_size", "frame_rate"])


def assert_has_options(call, names):
    defaults = {field.name: field.default for field in fields(RestorationOptions)}
    parameters = inspect.signature(call).parameters
    for option in names:
        assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[option].default == defaults[option]
