"""The model card of a saved pipeline."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from string import Template

import torch
from diffusers import DiffusionPipeline
from huggingface_hub import EvalResult, ModelCardData

from .remote_code import INSTALL


TAGS = ("face-restoration", "kalman-filter", "keep", "video-restoration", "video-super-resolution")
TEMPLATE = Path(__file__).with_name("model_card_template.md")


@dataclass(frozen=True, kw_only=True)
class CardContents:
    """What the weights do not say about themselves.

    Args:
        licence (`str`, *optional*): Licence of the weights, as the Hub names it: "apache-2.0", "mit", ...
        data (`str`, *optional*): Description of the training data and their licences.
        datasets (`tuple[str, ...]`, *optional*): The training data that are on the Hub, by their ids.
        evaluation (`str`, *optional*): Measurements, in Markdown.
        results (`tuple[EvalResult, ...]`, *optional*): The same for the metadata of the card.
    """

    licence: str | None = None
    data: str = "Not described."
    datasets: tuple[str, ...] = ()
    evaluation: str = "Nothing was measured yet."
    results: tuple[EvalResult, ...] = ()


def format_model_card(pipe: DiffusionPipeline, name: str, contents: CardContents) -> str:
    """Return the card of a pipeline as Markdown with metadata.

    Args:
        pipe (`KeepPipeline`): The pipeline.
        name (`str`): Its Hub id, or the name of its folder.
        contents ([`CardContents`]): What is known of the weights.
    """
    components = {key: component for key, component in pipe.components.items() if component is not None}
    networks = [component for component in components.values() if isinstance(component, torch.nn.Module)]
    count = sum(parameter.numel() for network in networks for parameter in network.parameters())
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="video-to-video",
        license=contents.licence,
        tags=list(TAGS),
        datasets=list(contents.datasets) or None,
        model_name=name.split("/")[-1],
        eval_results=[dataclasses.replace(result) for result in contents.results] or None,
    )
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        metadata=data.to_yaml(),
        name=name,
        install=INSTALL,
        licence=contents.licence or "Not stated: ask the authors before you use the weights.",
        data=contents.data,
        size=pipe.vq.config.sample_size,
        num_codes=f"{pipe.vq.config.num_codes:,}",
        parameters=f"{count / 1e6:.1f}",
        components=", ".join(f"`{key}` ({type(component).__name__})" for key, component in components.items()),
        evaluation=contents.evaluation,
    )
