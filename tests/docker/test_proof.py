import os
import shlex
import shutil
import subprocess

import pytest

from tests.docker.files import DOCKER

BUILD_SECONDS = 3600


@pytest.mark.slow
def test_it_builds_and_runs_on_a_read_only_root_as_a_user_without_rights() -> None:
    options = os.environ.get("PROOF_OPTIONS")
    if options is None:
        pytest.skip("PROOF_OPTIONS is not set: options of `buildah build` for docker/prove.sh")
    if shutil.which("buildah") is None or os.geteuid() != 0:
        pytest.skip("docker/prove.sh needs buildah and root")
    done = subprocess.run(
        [DOCKER / "prove.sh", *shlex.split(options)],
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
