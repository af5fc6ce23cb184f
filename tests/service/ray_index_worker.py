"""An index run of its own, for tests that kill it: DATA_DIR FOLDER."""

import sys
from pathlib import Path

from service.media_source import media_sources
from service.ray_index import index_run
from service.settings import Settings
from tests.service.ray_workers import load_slow

if __name__ == "__main__":
    data_dir, folder = sys.argv[1:3]
    with index_run(Settings(data_dir=Path(data_dir)), load_slow) as run:
        for outcome in run.outcomes(list(media_sources([folder])), tags=[], workers=2):
            print(outcome.path, outcome.state, flush=True)
