"""Values of components that need no session."""

import pytest

from keep_hf.page.interface.rendering import tenths


@pytest.mark.parametrize(("seconds", "rounded"), [(1.1, 1.1), (4.4, 4.4), (0.12, 0.2), (44 / 10, 4.4), (2.0, 2.0)])
def test_the_length_of_a_video_in_steps_of_the_sliders(seconds, rounded):
    """Rounded up, so that the last frame can be chosen; 10 * 1.1 is more than 11."""
    assert tenths(seconds) == rounded
