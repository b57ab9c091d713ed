"""KEEP as a diffusers pipeline: loading and saving, and the restoration of videos."""

from .keep_pipeline import KeepPipeline
from .output import KeepPipelineOutput


__all__ = ["KeepPipeline", "KeepPipelineOutput"]
