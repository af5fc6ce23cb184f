import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import load_settings
from tests.docker.files import DOCKER, ROOT, compose, run, unknown_settings

OURS = {"avgzsl", "gpu", "replica-1", "replica-2"}

Service = dict[str, Any]


def make_secrets(folder: Path) -> Path:
    """The compose file and what it reads, in a folder of their own, with passwords made anew."""
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copytree(DOCKER, folder / "docker", ignore=shutil.ignore_patterns("secrets"))
    assert run(folder / "docker" / "secrets.sh").returncode == 0
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_secrets(tmp_path_factory.mktemp("compose"))


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, Service]:
    """All services of all profiles."""
    return compose("*", folder=folder)["services"]


def test_one_service_runs_without_any_secret_or_profile() -> None:
    project = compose()
    assert set(project["services"]) == {"avgzsl"}
    (port,) = project["services"]["avgzsl"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8000", 8000)


def test_another_port_and_an_index_with_cpu_builds_of_torch_can_be_given() -> None:
    service = compose(PORT="9000", TORCH_INDEX="INDEX")["services"]["avgzsl"]
    assert service["ports"][0]["published"] == "9000"
    assert service["build"]["args"] == {"TORCH": "cpu", "TORCH_INDEX": "INDEX"}


def test_the_gpu_service_asks_for_one_and_for_a_cuda_build(services: dict[str, Service]) -> None:
    gpu = services["gpu"]
    assert gpu["build"]["args"]["TORCH"] == "cuda"
    assert gpu["environment"]["AVGZSL_DEVICE"] == "cuda"
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_every_image_is_pinned(services: dict[str, Service]) -> None:
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+\.\d+|\d+\.\d+-|RELEASE\.\d{4}-", tag), f"{name}: {tag}"


def test_every_service_is_confined(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service.get("read_only") or name == "milvus", name
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory", "pids"} <= set(limits), name
        assert not service.get("privileged"), name
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name


def test_decoders_run_out_of_their_own_memory_before_the_container_does(
    services: dict[str, Service],
) -> None:
    settings = load_settings()
    for name in OURS:
        limit = int(services[name]["deploy"]["resources"]["limits"]["memory"])
        assert limit > settings.decode_workers * settings.decode_memory_bytes, name


def test_what_waits_for_health_waits_for_what_has_a_check(services: dict[str, Service]) -> None:
    checked = {name for name, service in services.items() if "healthcheck" in service} | OURS
    assert checked == set(services) - {"bucket"}
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            ends = how["condition"] == "service_completed_successfully"
            assert other in checked or ends, f"{name} waits for {other}"


def test_databases_are_reached_by_replicas_alone(folder: Path) -> None:
    project = compose("cluster", folder=folder)
    assert project["networks"]["storage"]["internal"]
    on_storage = {n for n, s in project["services"].items() if "storage" in s["networks"]}
    assert {"proxy", "grafana", "prometheus"}.isdisjoint(on_storage)
    assert {"replica-1", "replica-2", "postgres", "milvus", "minio"} <= on_storage
    for name in ("postgres", "milvus", "minio", "etcd"):
        assert "ports" not in project["services"][name]


def test_replicas_share_all_but_their_folder(services: dict[str, Service]) -> None:
    first, second = services["replica-1"], services["replica-2"]
    assert first["environment"] == second["environment"]
    for variable in ("AVGZSL_CATALOGUE_URL", "AVGZSL_VECTOR_STORE", "AVGZSL_MEDIA_URL"):
        assert first["environment"][variable]
    assert first["volumes"][0]["source"] != second["volumes"][0]["source"]
    extras = set(first["build"]["args"]["EXTRAS"].split(","))
    assert extras == {"milvus", "postgres", "s3"}


def test_the_proxy_knows_the_replicas(services: dict[str, Service]) -> None:
    (named,) = re.findall(r"\{\$REPLICAS:([^}]*)\}", (DOCKER / "Caddyfile").read_text("utf-8"))
    replicas = {name for name in services if name.startswith("replica-")}
    assert set(named.split()) == {f"{name}:8000" for name in replicas}
    for name in replicas:
        assert set(services[name]["networks"]) & set(services["proxy"]["networks"])


def test_prometheus_scrapes_the_replicas_and_grafana_asks_prometheus(
    services: dict[str, Service],
) -> None:
    scraping = yaml.safe_load((DOCKER / "prometheus.yml").read_text("utf-8"))
    (job,) = scraping["scrape_configs"]
    (targets,) = [config["targets"] for config in job["static_configs"]]
    assert set(targets) == {f"{n}:8000" for n in services if n.startswith("replica-")}
    provisioned = DOCKER / "grafana"
    sources = yaml.safe_load((provisioned / "datasources" / "prometheus.yml").read_text("utf-8"))
    (source,) = sources["datasources"]
    assert source["url"] == "http://prometheus:9090"
    boards = yaml.safe_load((provisioned / "dashboards" / "provider.yml").read_text("utf-8"))
    (provider,) = boards["providers"]
    (mount,) = [v for v in services["grafana"]["volumes"] if v["type"] == "bind"]
    inside = Path(provider["options"]["path"]).relative_to(mount["target"])
    assert (provisioned / inside / "avgzsl.json").is_file()


def test_passwords_are_made_anew_and_agree_on_both_sides(
    services: dict[str, Service], tmp_path: Path
) -> None:
    replica = services["replica-1"]["environment"]
    postgres = services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    minio = services["minio"]["environment"]["MINIO_ROOT_PASSWORD"]
    milvus = services["milvus"]["environment"]
    assert f":{postgres}@postgres/" in replica["AVGZSL_CATALOGUE_URL"]
    assert replica["AWS_SECRET_ACCESS_KEY"] == milvus["MINIO_SECRET_ACCESS_KEY"] == minio
    root = milvus["COMMON_SECURITY_DEFAULTROOTPASSWORD"]
    assert f":{root}@milvus:" in replica["AVGZSL_VECTOR_STORE"]
    assert len({postgres, minio, root}) == 3
    assert min(map(len, (postgres, minio, root))) >= 48
    other = compose("cluster", folder=make_secrets(tmp_path))["services"]["postgres"]
    assert other["environment"]["POSTGRES_PASSWORD"] != postgres


def test_secrets_are_for_their_owner_and_are_not_made_twice(folder: Path) -> None:
    made = sorted((folder / "docker" / "secrets").iterdir())
    before = [path.read_bytes() for path in made]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}
    done = run(folder / "docker" / "secrets.sh")
    assert done.returncode == 1
    assert "there already" in done.stderr
    assert [path.read_bytes() for path in made] == before


def test_secrets_stay_out_of_git_and_out_of_images() -> None:
    ignored = (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert {"/docker/secrets/", "/avgzsl.env", "/.env"} <= set(ignored)
    assert "docker/secrets" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def test_without_secrets_the_cluster_says_which_file_is_missing() -> None:
    if (DOCKER / "secrets").exists():
        pytest.skip("docker/secrets was made here")
    with pytest.raises(AssertionError, match=r"env file .*docker/secrets/\w+\.env not found"):
        compose("cluster")


def test_every_variable_and_every_file_that_is_named_exists(services: dict[str, Service]) -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert unknown_settings(text + (DOCKER / "secrets.sh").read_text("utf-8")) == set()
    mounted = [
        Path(volume["source"])
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert mounted
    for path in mounted:
        assert path.exists(), path
