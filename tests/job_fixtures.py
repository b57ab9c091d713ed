"""Jobs of the page with the real backend and small networks: fixtures for modules that name this one in
`pytest_plugins`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job_steps import NUM_FRAMES
from keep_hf.page.jobs.service import JobService
from portraits import write_people


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        "two": write_people(folder / "two.mp4", NUM_FRAMES),
        "one": write_people(folder / "one.mp4", NUM_FRAMES, num_people=1),
        "long": write_people(folder / "long.mp4", 40, num_people=1),
    }


@pytest.fixture
def start(pipe, tmp_path) -> Iterator[Callable[..., JobService]]:
    services = []

    def start(**options) -> JobService:
        services.append(service := JobService(pipe, str, parent=tmp_path / "work", **options))
        return service

    yield start
    for service in services:
        service.close()
    assert not list((tmp_path / "work").glob("*"))  # nothing is left on the disk
