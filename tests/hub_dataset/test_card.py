"""The card of the result: a section for each split, whose values are those of the run."""

from huggingface_hub import DatasetCard

from keep_hf.hub_dataset.card import add_split


def card(before: str | None, split: str, revision: str, is_new: bool = True) -> str | None:
    job = {"source": "me/clips", "revision": revision, "column": "video", "crf": 16}
    old = None if before is None else DatasetCard(before, ignore_metadata_errors=True)
    return add_split(old, "restored", "default", split, f"data/{split}-*", job, "keep-small", None, is_new)


def test_a_section_is_replaced_if_the_split_starts_again():
    both = card(card(None, "train", "1" * 40), "test", "2" * 40)
    again = card(both, "train", "3" * 40)
    assert again == both.replace("1" * 40, "3" * 40)
    last = card(again, "test", "4" * 40)
    assert last == again.replace("2" * 40, "4" * 40)
    assert DatasetCard(last).data.configs[0]["data_files"] == [
        {"split": "train", "path": "data/train-*"},
        {"split": "test", "path": "data/test-*"},
    ]


def test_what_users_have_changed_stays_if_the_run_is_resumed():
    before = card(None, "train", "1" * 40).replace("column `video`", "column `video` of the original")
    assert card(before, "train", "1" * 40, is_new=False) is None
    after = card(before, "test", "1" * 40, is_new=False)
    assert "column `video` of the original" in after
    assert "## Split `test` of `default`" in after


def test_a_card_that_does_not_change_is_not_written():
    before = card(None, "train", "1" * 40)
    assert card(before, "train", "1" * 40) is None
