"""Turn the state of a stream into what `torch.save` and `torch.load(weights_only=True)` take, and back.

Nothing in such a file is executed when it is loaded: it holds tensors, numbers and text, and the names of the few
classes below.
"""

from typing import Any

import numpy as np
import torch

from ..faces.tracking.person import Person
from ..faces.tracking.tracker import FaceTracker
from ..faces.tracking.tracks import PlacedFace
from ..models.kalman import KalmanState


CLASSES = {cls.__name__: cls for cls in (FaceTracker, KalmanState, Person, PlacedFace)}


def pack(value: Any) -> Any:
    """Replace arrays and objects by tensors and dictionaries, at any depth."""
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value.copy())}
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in CLASSES.values():
        return {"class": type(value).__name__, "attributes": pack(vars(value))}
    if isinstance(value, torch.Tensor):
        return value.cpu().clone()  # a view would be saved with all that it is a view of
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [pack(item) for item in value]
    assert value is None or isinstance(value, int | float | str), type(value)
    return value


def unpack(value: Any, device: torch.device) -> Any:
    """The reverse of `pack`; tensors go to the device, tuples come back as lists."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [unpack(item, device) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        return value["array"].numpy()
    if value.keys() == {"class", "attributes"}:
        made = object.__new__(CLASSES[value["class"]])
        vars(made).update(unpack(value["attributes"], device))
        return made
    return {key: unpack(item, device) for key, item in value.items()}
