"""End an image's build unless torch is of the build that was asked for: `check_torch.py cpu|cuda`.

torch itself cannot be imported yet where it is a CUDA build without what it depends on.
"""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Compare, and say what to do where they differ."""
    wanted = sys.argv[1]
    if wanted not in ("cpu", "cuda"):
        sys.exit(f"TORCH is {wanted!r}; it must be cpu or cuda")
    spec = find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    version = runpy.run_path(str(Path(spec.origin).parent / "version.py"))
    found = "cpu" if version["cuda"] is None else "cuda"
    if found != wanted:
        sys.exit(
            f"torch {version['__version__']} is a {found} build and TORCH is {wanted}; give by "
            f"--build-arg TORCH_INDEX=URL a package index that has {wanted} builds, or ask for "
            f"--build-arg TORCH={found}"
        )


if __name__ == "__main__":
    main()
