"""Face masks from a network with a known output and from a small random SegFormer; models that are rejected."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from keep_hf.faces.alignment import paste_face
from keep_hf.faces.face_parser import face_mask, load_parser
from segformer import LABELS, make_segformer


class KnownParser:
    """Predicts the class of a pixel from its level of red, which is 10 * number of the class."""

    device, dtype = torch.device("cpu"), torch.float32
    config = SimpleNamespace(id2label=dict(enumerate(LABELS)))

    def __call__(self, images):
        red = (images[:, :1] * 0.229 + 0.485) * 255
        distance = (red - 10 * torch.arange(len(LABELS))[:, None, None]).abs()
        return SimpleNamespace(logits=torch.nn.functional.avg_pool2d(-10 * distance, 4))


def make_stripes(*names, size=128):
    """Vertical stripes, one of each class."""
    red = np.repeat([LABELS.index(name) * 10 for name in names], size // len(names))
    return np.broadcast_to(red.astype(np.uint8)[None, :, None], (size, size, 3)).copy()


@pytest.fixture
def segformer():
    return make_segformer()


@pytest.mark.parametrize("size", [128, 256, 512])
@pytest.mark.parametrize("name", LABELS)
def test_each_class_is_face_or_not(name, size):
    (mask,) = face_mask(KnownParser(), [make_stripes(name, size=size)])
    assert mask.shape == (size, size)
    assert mask.dtype == np.float32
    expected = name not in ("background", "hat", "neck_l", "neck", "cloth")
    np.testing.assert_allclose(mask, expected, atol=1e-3)


def test_border_is_soft_and_in_the_right_place():
    (mask,) = face_mask(KnownParser(), [make_stripes("skin", "background", size=256)])
    row = mask[100]
    assert abs(np.argmax(row < 0.5) - 128) <= 1
    assert row[:112].min() > 0.98
    assert row[144:].max() < 0.02
    assert 0.03 < np.abs(np.diff(row)).max() < 0.15
    np.testing.assert_allclose(mask, np.broadcast_to(row, mask.shape), atol=1e-5)


def test_crops_of_a_batch_do_not_mix():
    crops = [make_stripes("skin"), make_stripes("cloth", "nose"), make_stripes("hair", "skin", "cloth", "hat")]
    for mask, crop in zip(face_mask(KnownParser(), crops), crops, strict=True):
        np.testing.assert_allclose(mask, face_mask(KnownParser(), [crop])[0], atol=1e-6)
    assert face_mask(KnownParser(), []) == []


def test_classes_are_found_by_their_names():
    class Shuffled(KnownParser):
        config = SimpleNamespace(id2label=dict(enumerate(reversed(LABELS))))

        def __call__(self, images):
            return SimpleNamespace(logits=super().__call__(images).logits.flip(1))

    crop = make_stripes("skin", "background", "hair", "cloth")
    np.testing.assert_allclose(face_mask(Shuffled(), [crop])[0], face_mask(KnownParser(), [crop])[0], atol=1e-6)


def test_masks_of_a_random_segformer_are_probabilities(segformer):
    crops = list(np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8))
    masks = face_mask(segformer, crops)
    assert [mask.shape for mask in masks] == [(96, 96)] * 2
    assert all(mask.min() >= 0 and mask.max() <= 1 for mask in masks)


def test_parser_is_saved_and_loaded(segformer, tmp_path):
    segformer.save_pretrained(tmp_path)
    loaded = load_parser(tmp_path)
    crop = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(face_mask(loaded, [crop])[0], face_mask(segformer, [crop])[0])
    half = load_parser(tmp_path, torch.bfloat16)
    assert half.dtype == torch.bfloat16
    np.testing.assert_allclose(face_mask(half, [crop])[0], face_mask(segformer, [crop])[0], atol=0.02)


def test_segformer_without_the_classes_of_faces_is_rejected(segformer, tmp_path):
    segformer.config.id2label = {i: f"LABEL_{i}" for i in range(19)}
    with pytest.raises(ValueError, match=r"not a face parser, the classes ear_r, eye_g, .* are missing"):
        face_mask(segformer, [make_stripes("skin")])
    segformer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not a face parser"):
        load_parser(tmp_path)


def test_model_of_another_kind_is_rejected(segformer, tmp_path):
    """Without a check, transformers would continue with random weights."""
    segformer.segformer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"not a SegFormer for segmentation, decode_head"):
        load_parser(tmp_path)


def test_missing_transformers_is_reported(monkeypatch):
    monkeypatch.setattr("keep_hf.faces.face_parser.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install transformers"):
        load_parser("jonathandinu/face-parsing")


def test_crops_of_several_sizes_are_rejected():
    with pytest.raises(ValueError, match="of one size"):
        face_mask(KnownParser(), [make_stripes("skin"), make_stripes("skin", size=64)])


def test_an_object_in_front_of_the_face_is_unchanged():
    frame = np.full((200, 200, 3), 90, np.uint8)
    (mask,) = face_mask(KnownParser(), [make_stripes("skin", "background")])
    matrix = np.array([(1.0, 0, -36), (0, 1.0, -36)])
    paste_face(frame, np.full((128, 128, 3), 220, np.uint8), matrix, offset=np.zeros(3), mask=mask)
    assert (frame[100, 112:] == 90).all()
    assert (frame[100, 70:88] > 210).all()
