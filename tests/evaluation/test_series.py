"""Averages over frames and videos, and what becomes of values that are not finite."""

import json
import math

import numpy as np
import pytest

from keep_hf.evaluation.series import Series, VideoMetrics, average


def test_infinite_values_are_left_out_of_the_mean_and_counted():
    series = Series([math.inf, 34.0, 22.0])
    assert series.mean == pytest.approx(28)
    assert series.sigma == pytest.approx(6)
    written = json.loads(json.dumps(series.to_dict(), allow_nan=False))
    assert written["left_out"] == 1
    assert written["values"][0] == "inf"
    assert Series.from_dict(written) == series


def test_nan_is_left_out_and_the_mean_of_no_values_is_nan():
    series = Series([math.nan, 1.0, 3.0])
    assert (series.mean, series.sigma, series.to_dict()["left_out"]) == (2, 1, 1)
    assert Series([]).to_dict() == {"mean": "nan", "sigma": "nan", "left_out": 0, "values": []}
    assert Series([math.inf, math.inf]).mean == math.inf
    assert math.isnan(Series([math.inf, math.nan]).mean)


def test_metrics_are_read_unchanged():
    metrics = VideoMetrics("a", 2, {"ids": Series([0.2, math.inf]), "akd": None})
    assert VideoMetrics.from_dict(json.loads(json.dumps(metrics.to_dict(), allow_nan=False))) == metrics


def test_videos_have_the_same_weight_independent_of_their_length():
    short = VideoMetrics("a", 1, {"ids": Series([0.2]), "akd": None})
    long = VideoMetrics("b", 4, {"ids": Series([0.4, 0.4, 0.8, 0.8]), "akd": None})
    averaged = average([short, long])
    assert (averaged.num_videos, averaged.num_frames) == (2, 5)
    # Means 0.2 and 0.6, deviations 0 and 0.2
    assert averaged.mean == {"ids": pytest.approx(0.4), "akd": None}
    assert averaged.sigma == {"ids": pytest.approx(0.1), "akd": None}
    assert json.loads(json.dumps(averaged.to_dict(), allow_nan=False))["mean"]["akd"] is None
    assert average(iter([long])).mean["ids"] == pytest.approx(0.6)
    # An average counts as one video.
    both = average([averaged, long])
    assert (both.num_videos, both.num_frames) == (2, 9)
    assert both.mean["ids"] == pytest.approx(0.5)


def test_videos_with_other_metrics_cannot_be_averaged():
    metrics = VideoMetrics("a", 1, {"ids": Series([0.2])})
    for other in (VideoMetrics("b", 1, {"ids": None}), VideoMetrics("b", 1, {"akd": Series([0.2])})):
        with pytest.raises(ValueError, match=r"metrics \['ids'\] and .* cannot be averaged"):
            average([metrics, other])
    with pytest.raises(ValueError, match="no videos"):
        average([])


def test_means_over_values_and_frames():
    metrics = VideoMetrics("a", 3, {"psnr": Series([30.0, 33.0]), "akd": None})
    assert metrics.mean == {"psnr": 31.5, "akd": None}
    assert metrics.sigma == {"psnr": 1.5, "akd": None}
    assert np.array_equal(metrics.metrics["psnr"].finite, [30.0, 33.0])
