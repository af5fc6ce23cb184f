"""Exit with 0 where the service in this container is ready, for `HEALTHCHECK`."""

import os
import sys
import urllib.error
import urllib.request


def main() -> None:
    """Ask `/readyz`, which makes the model answer, every few seconds at most."""
    url = f"http://127.0.0.1:{os.environ.get('AVGZSL_PORT', '8000')}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=12):
            pass
    except urllib.error.HTTPError as error:
        sys.exit(error.read(2000).decode("utf-8", "replace"))
    except OSError as error:
        sys.exit(f"{url}: {error}")


if __name__ == "__main__":
    main()
