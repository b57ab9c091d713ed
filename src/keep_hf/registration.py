"""Registration of the components with diffusers.

diffusers saves a component as `["keep_hf", "GMFlow"]` in `model_index.json`, and finds its save and load methods, only
if its tables list the library.  They are not public, which is why pyproject.toml limits the version of diffusers.
"""

from diffusers.pipelines.pipeline_loading_utils import ALL_IMPORTABLE_CLASSES, LOADABLE_CLASSES


COMPONENTS = ("DISFlow", "FaceDetector", "FaceIdentity", "GMFlow", "KalmanGainNetwork", "KeepVQModel", "YuNet")


def register_components() -> None:
    """Add the component classes to the tables of diffusers; a second call changes nothing."""
    LOADABLE_CLASSES["keep_hf"] = {name: ["save_pretrained", "from_pretrained"] for name in COMPONENTS}
    ALL_IMPORTABLE_CLASSES.update(LOADABLE_CLASSES["keep_hf"])
