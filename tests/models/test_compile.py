"""Compiled networks: the same faces, and no recompilation when the number of people changes.

The graphs are run without a compiler behind them, which saves a minute.  `python -m benchmarks.speed compare SRC SRC
--new-compiles` compiles them and reports the difference.
"""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from conftest import KnownFaces, make_clip, make_components, make_faces
from keep_hf import FaceDetector, KalmanRecursion, KeepPipeline, KeepVQModel
from keep_hf.faces.follower import FaceFollower
from media import write_clip


pytestmark = pytest.mark.slow


SIZE = 32
ONE = make_faces((10, 6, SIZE))
TWO = make_faces((10, 6, SIZE), (50, 8, SIZE))
NO_FACES = make_faces()


def make_pipe(people: list) -> KeepPipeline:
    components = make_components()
    config = components["vq"].config | {"sample_size": SIZE, "block_out_channels": (8, 16), "layers_per_block": 1}
    torch.manual_seed(0)
    sizes = {"fusion_sizes": (16,), "feature_update_sizes": (16,), "cross_frame_sizes": (8,)}
    components["vq"] = KeepVQModel.from_config(config | sizes).eval()
    pipe = KeepPipeline(**components, detector=KnownFaces(people))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_networks_are_compiled_once():
    people = [ONE] * 6 + [TWO] * 8 + [ONE] * 8 + [NO_FACES] * 15 + [TWO] * 7
    frames = make_clip(len(people), 100, 48)
    plain = np.stack(list(map(np.asarray, make_pipe(people)(frames, strength=1.0).frames[0])))
    pipe = make_pipe(people)
    names = set(pipe.vq.state_dict())
    pipe.compile(backend="aot_eager")
    assert set(pipe.vq.state_dict()) == names

    torch._dynamo.reset()
    counters.clear()
    pipe.detector.clip = [ONE] * 3
    pipe(frames[:3], strength=1.0)
    # The HQ encoder, the feature update, the code transformer, the decoder without and with a previous frame.
    assert counters["stats"]["unique_graphs"] == 5
    pipe.detector.clip, pipe.detector.num_seen = people, 0
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled = np.stack(list(map(np.asarray, pipe(frames, strength=1.0).frames[0])))
    assert counters["stats"]["unique_graphs"] == 5
    assert (plain != frames).any(axis=(1, 2, 3)).sum() > 25
    # Rounding changes a few pixels by one level, and may change a code where two are equally likely.
    assert (np.abs(compiled.astype(int) - plain) <= 1).mean() > 0.999


def test_uncompiled_run_is_not_resumed_with_compiled_networks(tmp_path):
    source, target = write_clip(tmp_path / "in.mp4", num_frames=12), tmp_path / "out.mp4"
    pipe = make_pipe([])
    pipe.register_to_config(gain_window=2)
    failing = patch.object(FaceFollower, "flush", side_effect=KeyboardInterrupt)
    with failing, pytest.raises(KeyboardInterrupt):
        pipe.restore_video(source, target, segment_frames=1, aligned=True, gain_mode="official")
    pipe.compile(backend="eager")
    with pytest.raises(ValueError, match="compiled was False and is True"):
        pipe.restore_video(source, target, segment_frames=1, aligned=True, gain_mode="official", resume=True)


def count_graphs(pipe: KeepPipeline) -> int:
    torch._dynamo.reset()
    counters.clear()
    size = pipe.vq.config.sample_size
    pipe(make_clip(2, size, size), aligned=True, fidelity=0.5, strength=1.0)
    return counters["stats"]["unique_graphs"]


def test_each_network_compiles_what_the_pipeline_calls():
    pipe = make_pipe([])
    assert count_graphs(pipe) == 0
    pipe.flow.compile(backend="eager")
    assert count_graphs(pipe) == 4  # backbone, transformer, propagation, upsampler
    pipe.vq.compile(backend="eager")
    # LQ encoder, HQ encoder, feature update, code transformer, decoder without and with a previous frame
    assert count_graphs(pipe) == 4 + 6


def test_a_direct_path_is_compiled():
    config = {name: value for name, value in make_pipe([]).vq.config.items() if not name.startswith("_")}
    vq = KeepVQModel(**config | {"direct_channels": (8, 16), "direct_units": (1, 2)}).eval()
    vq.compile(backend="eager")
    torch._dynamo.reset()
    counters.clear()
    with torch.no_grad():
        vq.observe_direct(torch.zeros(1, 3, SIZE, SIZE))
    assert counters["stats"]["unique_graphs"] >= 2


def test_compiled_encoders_find_their_features_for_every_number_of_images():
    vq = KeepPipeline.from_pretrained("keep-tiny").vq
    vq.compile(backend="eager")
    torch._dynamo.reset()
    with torch.no_grad():
        for images in torch.rand(3, 3, 256, 256).split((2, 1)):
            assert vq.encode_lq(images)[1].keys() == {16, 32, 64}
            assert vq.encode_hq(images)[1].keys() == {64}


def test_all_networks_of_the_detector_are_compiled():
    """The calls are recorded. The number of graphs varied with what the process had compiled for other tests."""
    detector = FaceDetector(search_threshold=0.0, threshold=0.0, refinement=True).eval()
    detector.compile(backend="eager")
    called = []

    def record(network):
        compiled = network._compiled_call_impl

        def call(*args, **options):
            called.append(network)
            return compiled(*args, **options)

        network._compiled_call_impl = call

    networks = (detector, detector.close_up_network, detector.refinement_network)
    for network in networks:
        record(network)
    detector.detect(list(make_clip(1, 64, 64)))
    assert all(any(network is other for other in called) for network in networks)


def test_compiling_only_forward_warns():
    pipe = make_pipe([])
    for name in ("vq", "flow"):
        compiled = torch.compile(getattr(pipe, name), backend="eager")
        networks = {"vq": pipe.vq, "kalman": pipe.kalman, "flow": pipe.flow} | {name: compiled}
        with pytest.warns(UserWarning, match=rf"Call {name}\.compile\(\) in its place"):
            KalmanRecursion(**networks)
