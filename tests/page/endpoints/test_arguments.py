"""Arguments of API calls: any JSON value."""

import re

import pytest

from keep_hf.page.endpoints.arguments import check_part, check_request
from keep_hf.page.requests import RestorationRequest


GOOD = {
    "start": 0,
    "end": 2.5,
    "people": [2.0],
    "fidelity": 1,
    "strength": "auto",
    "upscale": 2.0,
    "quality": "good",
} | {"person_strength": {"2": 1, "3": "auto"}}


def test_values_of_the_right_type():
    request = check_request(**GOOD)
    assert request == RestorationRequest(0.0, 2.5, (2,), 1.0, "auto", 2, "good", {2: 1.0, 3: "auto"})
    assert isinstance(request.upscale, int)
    assert check_request(**GOOD | {"people": None, "strength": 0.5}).people == ()
    assert check_request(**GOOD | {"person_strength": None}).person_strength is None
    assert check_part(1, None) == (1.0, float("inf"))


@pytest.mark.parametrize("value", ["abc", [1], {"a": 1}, True, "1.5", float("nan")])
@pytest.mark.parametrize("name", ["start", "end", "fidelity", "strength", "upscale"])
def test_other_types(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got {re.escape(repr(value))}\\.$"):
        check_request(**GOOD | {name: value})
    if name in ("start", "end"):
        with pytest.raises(ValueError, match=f"^{name} must be a number of seconds"):
            check_part(**{"start": 0, "end": 1} | {name: value})


@pytest.mark.parametrize("people", ["me", ["me"], 1, [True], [1.5], [None], {"1": 2}])
def test_people_of_other_types(people):
    with pytest.raises(ValueError, match="people must be a list of numbers from /faces"):
        check_request(**GOOD | {"people": people})


@pytest.mark.parametrize("value", ["me", [0.5], 1, {"me": 1}, {"-1": 1}, {1: 1}, {"1": "much"}, {"1": None}])
def test_strengths_of_people_of_other_types(value):
    with pytest.raises(
        ValueError, match=r"person_strength (of 1 must be a number from 0|must map numbers from /faces)"
    ):
        check_request(**GOOD | {"person_strength": value})


@pytest.mark.parametrize("quality", [1, None, ["good"], "perfect"])
def test_other_qualities(quality):
    with pytest.raises(ValueError, match="quality must be one of small file, good, best, got"):
        check_request(**GOOD | {"quality": quality})
