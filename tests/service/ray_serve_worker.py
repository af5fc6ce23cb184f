"""A service on Ray of its own, for tests that stop it: DATA_DIR PORT."""

import sys
from pathlib import Path

from service.ray_server import run_on_ray
from service.settings import Settings
from tests.service.ray_workers import load_slow

if __name__ == "__main__":
    data_dir, port = sys.argv[1:3]
    run_on_ray(
        Settings(data_dir=Path(data_dir), port=int(port), decode_workers=1),
        on_ready=lambda: print("ready", flush=True),
        load=load_slow,
    )
