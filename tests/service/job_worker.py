"""What the process does that the crash test of jobs kills: work on them."""

import asyncio
from pathlib import Path

from model.fake import FakeEmbedder
from service.jobs import working
from service.observation import Observation
from service.resources import open_resources
from service.settings import Settings


def work_on_jobs(data_dir: Path, roots: tuple[Path, ...]) -> None:
    """Work on a library's jobs until killed."""
    # Whatever item is met at each kill may not be given up: here the kills are not its fault.
    settings = Settings(data_dir=data_dir, import_roots=roots, job_workers=2, job_attempts=1000)

    async def work() -> None:
        with open_resources(settings, FakeEmbedder(), Observation()) as resources:
            async with working(resources.jobs):
                await asyncio.Event().wait()

    asyncio.run(work())
