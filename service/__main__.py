"""`python -m service` is `avgzsl`."""

from service.cli import app

app()
