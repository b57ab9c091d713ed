"""The comparison of before and after: a component of the page, and its values."""

from .component import build_comparison, comparison_value
from .face_paths import FacePath, collect_paths


__all__ = ["FacePath", "build_comparison", "collect_paths", "comparison_value"]
