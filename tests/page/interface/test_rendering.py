"""Values of components that need no session."""

import pytest

from keep_hf.page.interface.rendering import tenths


@pytest.mark.parametrize(("seconds", "rounded"), [(3000 / (30000 / 1001), 100.1), (0.12, 0.2), (2.0, 2.0)])
def test_the_length_of_a_video_in_steps_of_the_sliders(seconds, rounded):
    """Rounded up, so that the last frame can be chosen, but not by an error of floating point."""
    assert tenths(seconds) == rounded
