"""The model behind LitServe: `python benchmarks/peer_litserve.py PORT`."""

import sys
from typing import Any

import litserve
from fastapi import Request
from peer_model import BATCH, WAIT_SECONDS, WORKERS, Classifier

from model.embedding import PreparedChunk


class Api(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self.classifier = Classifier()

    def decode_request(self, request: Request) -> list[PreparedChunk]:
        # LitServe hands over the parsed form where a `Request` is asked for.
        upload = request["file"]  # type: ignore[index]
        return self.classifier.decode(upload.file.read(), upload.filename or "clip")

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, clips: list[Any]) -> list[dict[str, Any]]:
        return self.classifier.classify(clips)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=WAIT_SECONDS, api_path="/classify")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=WORKERS, timeout=300)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
