"""The model behind Ray Serve on a local cluster: `python benchmarks/peer_ray.py PORT`."""

import sys
import time
from typing import Any

import ray
from fastapi import FastAPI, UploadFile
from peer_model import BATCH, WAIT_SECONDS, WORKERS, Classifier
from ray import serve

web = FastAPI()


@serve.deployment(num_replicas=WORKERS, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=64)
@serve.ingress(web)
class Deployment:
    def __init__(self) -> None:
        self.classifier = Classifier()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_SECONDS)
    async def answered(self, clips: list[Any]) -> list[dict[str, Any]]:
        return self.classifier.classify(clips)

    @web.post("/classify")
    async def classify(self, file: UploadFile) -> dict[str, Any]:
        chunks = self.classifier.decode(await file.read(), file.filename or "clip")
        answer: dict[str, Any] = await self.answered(chunks)
        return answer

    @web.get("/health")
    def health(self) -> str:
        return "ok"


if __name__ == "__main__":
    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Deployment.bind(), route_prefix="/")
    while True:
        time.sleep(1)
