"""The sound of the example clips: a short melody, computed here."""

import numpy as np


SAMPLE_RATE = 48000
NOTES = (60, 64, 67, 72, 69, 65, 67, 64)  # MIDI note numbers, two per second


def synthesize_melody(seconds: float) -> np.ndarray:
    """Synthesize a plucked melody: float32 `(samples,)` in [-1, 1]."""
    time = np.arange(round(SAMPLE_RATE * seconds)) / SAMPLE_RATE
    samples = np.zeros_like(time)
    for index, note in enumerate(NOTES):
        since = time - 0.5 * index
        frequency = 440 * 2 ** ((note - 69) / 12)
        strength = np.where(since >= 0, np.minimum(since / 0.01, 1) * np.exp(-4 * np.maximum(since, 0)), 0)
        for overtone in (1, 2, 3):
            samples += strength / overtone**2 * np.sin(2 * np.pi * frequency * overtone * since)
    return (0.2 * samples * np.minimum((seconds - time) / 0.1, 1)).astype(np.float32)
