import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import load_settings
from tests.docker.files import DOCKER, run, unknown_settings

FOLDER = DOCKER / "kubernetes"
LABELS = {"app.kubernetes.io/name": "avgzsl"}

Resources = dict[str, dict[str, Any]]


def rendered(folder: str) -> Resources:
    """The resources of a folder as `kubectl apply -k` would send them, by kind and name."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = run(kubectl, "kustomize", FOLDER / folder)
    assert done.returncode == 0, done.stderr
    return by_name(done.stdout)


def by_name(text: str) -> Resources:
    return {f"{r['kind']}/{r['metadata']['name']}": r for r in yaml.safe_load_all(text)}


def pod(resources: Resources) -> dict[str, Any]:
    return resources["StatefulSet/avgzsl"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def base() -> Resources:
    """The base without kustomize, whose only change is a label."""
    named = yaml.safe_load((FOLDER / "base" / "kustomization.yaml").read_text("utf-8"))
    found: Resources = {}
    for name in named["resources"]:
        found |= by_name((FOLDER / "base" / name).read_text("utf-8"))
    return found


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_the_base_fits_the_schemas_of_kubernetes(base: Resources, version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    for resource in base.values():
        validate(resource, version, strict=True)


@pytest.mark.parametrize("folder", ["base", "cluster"])
def test_what_is_applied_fits_the_schemas_of_kubernetes(folder: str) -> None:
    validate = pytest.importorskip("kubernetes_validate").validate
    resources = rendered(folder)
    assert len(resources) == 6
    for resource in resources.values():
        validate(resource, "1.37", strict=True)
        assert resource["metadata"]["labels"] == LABELS


def test_every_selector_finds_the_pods_and_nothing_else(base: Resources) -> None:
    found = base["StatefulSet/avgzsl"]["spec"]
    assert found["template"]["metadata"]["labels"] == LABELS
    assert found["selector"]["matchLabels"] == LABELS
    assert base["Service/avgzsl"]["spec"]["selector"] == LABELS
    assert base["Service/avgzsl-pods"]["spec"]["selector"] == LABELS
    assert base["NetworkPolicy/avgzsl"]["spec"]["podSelector"]["matchLabels"] == LABELS
    assert base["PodDisruptionBudget/avgzsl"]["spec"]["selector"]["matchLabels"] == LABELS


def test_pods_have_no_rights_and_a_read_only_root(base: Resources) -> None:
    spec = pod(base)
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/data", "/tmp"}


def test_pods_run_as_the_user_of_the_image(base: Resources) -> None:
    context = pod(base)["securityContext"]
    user = f"USER {context['runAsUser']}:{context['runAsGroup']}"
    assert user in (DOCKER / "Dockerfile").read_text("utf-8").splitlines()


def test_the_services_own_name_does_not_become_a_setting(base: Resources) -> None:
    # Kubernetes would set AVGZSL_PORT to an address, and no pod would start.
    assert pod(base)["enableServiceLinks"] is False


def test_liveness_asks_whether_it_lives_and_readiness_whether_the_model_answers(
    base: Resources,
) -> None:
    (container,) = pod(base)["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_pods_may_finish_what_they_accepted(base: Resources) -> None:
    grace = pod(base)["terminationGracePeriodSeconds"]
    assert grace > load_settings().shutdown_timeout_seconds


def test_replicas_of_the_cluster_share_what_a_secret_names_and_each_has_a_volume() -> None:
    resources = rendered("cluster")
    found = resources["StatefulSet/avgzsl"]["spec"]
    assert found["replicas"] == 2
    assert [claim["metadata"]["name"] for claim in found["volumeClaimTemplates"]] == ["data"]
    (container,) = found["template"]["spec"]["containers"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": "avgzsl"}},
        {"secretRef": {"name": "avgzsl", "optional": False}},
    ]
    assert resources["ConfigMap/avgzsl"]["data"]["AVGZSL_MEDIA_URL"].startswith("s3://")
    assert container["image"] == "avgzsl:0.1.0-cluster"


def test_no_manifest_holds_a_secret_or_names_a_setting_that_does_not_exist() -> None:
    manifests = sorted(FOLDER.rglob("*.yaml"))
    assert manifests
    for path in manifests:
        text = path.read_text("utf-8")
        assert all(r["kind"] != "Secret" for r in yaml.safe_load_all(text)), path
        assert unknown_settings(text) == set(), path


def test_the_monitor_selects_a_port_of_the_service(base: Resources) -> None:
    path: Path = FOLDER / "cluster" / "servicemonitor.yaml"
    (monitor,) = by_name(path.read_text("utf-8")).values()
    (endpoint,) = monitor["spec"]["endpoints"]
    named = {s: [p["name"] for p in r["spec"]["ports"]] for s, r in base.items() if "Service/" in s}
    assert [s for s, ports in named.items() if endpoint["port"] in ports] == ["Service/avgzsl"]
    assert monitor["spec"]["selector"]["matchLabels"] == LABELS
