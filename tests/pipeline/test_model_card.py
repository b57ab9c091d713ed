"""The model cards of the checkpoints in the package: the measured values, and links that work on the Hub."""

import re

import pytest
from huggingface_hub import ModelCard

from keep_hf.built_in import BUILT_IN
from paths import REPOSITORY


METRICS = ["psnr", "ssim", "ids", "akd", "sigma_ids", "sigma_akd", "flicker"]
LEVELS = ["mild", "medium", "heavy"]
# The heading of the table in benchmarks/results.md, and the row of the model in it.
MEASURED = {"keep-small": ("keep-small", "keep-small"), "keep-tiny": ("The paper's evaluation of keep-tiny", "keep")}


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_metadata_has_the_measured_values(name):
    heading, row = MEASURED[name]
    section = (REPOSITORY / "benchmarks/results.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (line,) = re.findall(rf"^\| {row} \|(.*)\|$", section, re.M)
    keys = [(level, metric) for level in LEVELS for metric in METRICS]
    expected = dict(zip(keys, map(float, line.split("|")), strict=True))
    data = ModelCard.load(BUILT_IN[name] / "README.md").data
    assert {(r.dataset_config, r.metric_type): r.metric_value for r in data.eval_results} == expected
    assert (data.model_name, data.license, data.library_name) == (name, "apache-2.0", "diffusers")


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_table_has_the_values_of_the_metadata(name):
    card = ModelCard.load(BUILT_IN[name] / "README.md")
    for level in LEVELS:
        (line,) = re.findall(rf"^\| {level} \| {name} \|(.*)\|$", card.text, re.M)
        values = [r.metric_value for r in card.data.eval_results if r.dataset_config == level]
        assert list(map(float, line.split("|"))) == values


@pytest.mark.parametrize("name", BUILT_IN)
def test_links_are_absolute_and_their_targets_exist(name):
    card = ModelCard.load(BUILT_IN[name] / "README.md")
    links = re.findall(r"\]\(([^)]+)\)", card.text)
    assert links
    for link in links:
        assert link.startswith("https://")
        file = link.partition("/blob/main/")[2]
        assert (REPOSITORY / file).exists()
