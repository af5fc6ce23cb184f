"""The HTTP service and the command line: `service.app.create_app`, `service.cli`."""
