"""Image, compose file and Kubernetes manifests: what they name is there, and nothing in them runs as root."""

import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from vastproxy.settings.fields import variables
from vastproxy.settings.model import ServerSettings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
USER = "10001"
GRACE_S = ServerSettings().shutdown_grace_s


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, with continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE)).splitlines()
    return [(word, rest) for word, _, rest in (line.strip().partition(" ") for line in lines) if word]


def let_through(path: str) -> bool:
    """Does .dockerignore let this file be a part of the image's context? The last line that fits says so."""
    allowed = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.lstrip("!").rstrip("/").removeprefix("**/")
            if any(fnmatch(part, pattern) for part in (path, *map(str, Path(path).parents), Path(path).name)):
                allowed = line.startswith("!")
    return allowed


def test_what_the_image_copies_is_there_and_let_through() -> None:
    sources = [
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert {"requirements.lock", "pyproject.toml", "src/"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert let_through(source.rstrip("/")), source


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        "deploy/secrets/ssh_key",
        "tests/conftest.py",
        "id_ed25519",
        "src/__pycache__/x.pyc",
    ],
)
def test_what_is_not_needed_cannot_get_into_the_image(path: str) -> None:
    assert not let_through(path)


def test_the_image_is_built_from_the_lock() -> None:
    """venv.sh checks each file against its hash; so is the compiler; vastproxy is installed without an index."""
    runs = [rest for word, rest in instructions() if word == "RUN"]
    assert any("scripts/venv.sh python3 /opt/vastproxy dependencies" in run for run in runs)
    installs = [run for run in runs if "pip" in run and " install " in run]
    assert len(installs) == 2
    compiler, ours = installs
    assert "--require-hashes" in compiler
    assert "lock_subset.py requirements.lock" in compiler
    assert "--no-index" in ours
    assert "--no-deps" in ours


def test_the_image_is_not_root_and_says_how_it_is() -> None:
    last = instructions()[max(i for i, (word, _) in enumerate(instructions()) if word == "FROM") :]
    words = dict(last)
    assert words["USER"] == f"{USER}:{USER}"
    assert "/livez" in words["HEALTHCHECK"]
    assert words["ENTRYPOINT"] == '["vastproxy"]'
    assert words["CMD"] == '["serve"]'
    order = [word for word, _ in last]
    assert order.index("USER") > order.index("COPY")
    assert sum(word == "FROM" for word, _ in instructions()) == 2, "the build leaves nothing in the image"


def known(name: str) -> bool:
    """Is it a setting's variable? Others are Python's."""
    return name in variables() or not name.startswith(("VASTPROXY_", "VAST_", "SSH_", "LISTEN_"))


def test_every_variable_is_a_setting() -> None:
    text = " ".join(rest for word, rest in instructions() if word == "ENV")
    for name in re.findall(r"(\w+)=", text):
        assert known(name), name
    for name in COMPOSE["services"]["vastproxy"]["environment"]:
        assert known(name), name
    for entry in container()["env"]:
        assert known(entry["name"]), entry


# ── compose ────────────────────────────────────────────────────────────────────────────────────────


def test_every_file_of_the_compose_file_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
            else:
                assert source in COMPOSE["volumes"], source
        for secret in service["secrets"]:
            assert secret in COMPOSE["secrets"]
    build = COMPOSE["services"]["vastproxy"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def test_nothing_is_open_to_others_by_itself() -> None:
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_secrets_are_files_that_git_ignores() -> None:
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_prometheus_asks_where_the_proxy_is_with_a_key_that_it_has() -> None:
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (target,) = scrape["static_configs"][0]["targets"]
    assert target == "vastproxy:8080"
    assert "LISTEN_ADDR=0.0.0.0:8080" in DOCKERFILE
    secret = scrape["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert secret in COMPOSE["services"]["prometheus"]["secrets"]
    assert (
        COMPOSE["services"]["vastproxy"]["environment"]["VASTPROXY_API_KEYS"] == f"file:/run/secrets/{secret}"
    )


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/vastproxy.yaml").read_text())["providers"]
    mounts = [volume.split(":") for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert ["./grafana/dashboards", provider["options"]["path"], "ro"] in mounts


def test_streams_may_end_before_a_container_is_killed() -> None:
    assert int(COMPOSE["services"]["vastproxy"]["stop_grace_period"].removesuffix("s")) > GRACE_S
    assert manifest("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > GRACE_S


# ── Kubernetes ─────────────────────────────────────────────────────────────────────────────────────


def manifests() -> list[dict[str, Any]]:
    files = sorted(KUBERNETES.glob("*.yaml"))
    return [
        document
        for file in files
        if file.name != "kustomization.yaml"
        for document in yaml.safe_load_all(file.read_text())
    ]


def manifest(kind: str) -> dict[str, Any]:
    (found,) = (document for document in manifests() if document["kind"] == kind)
    return found


def container() -> dict[str, Any]:
    (found,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_every_manifest_is_one() -> None:
    kinds = {document["kind"] for document in manifests()}
    assert kinds == {"Namespace", "Secret", "PersistentVolumeClaim", "Deployment", "Service"}
    for document in manifests():
        assert document["apiVersion"]
        assert document["metadata"]["name"].startswith("vastproxy")


def test_the_kustomization_names_files_that_are_there_and_not_the_example_of_a_secret() -> None:
    """Applied again, it would put the example in the place of the real one."""
    named = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {KUBERNETES / name for name in named} | {KUBERNETES / "secret.example.yaml"} == {
        file for file in KUBERNETES.glob("*.yaml") if file.name != "kustomization.yaml"
    }


def test_the_service_finds_the_pods() -> None:
    service, deployment = manifest("Service"), manifest("Deployment")
    template = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {
        port["name"] for port in container()["ports"]
    }


def test_probes_ask_what_they_mean() -> None:
    """Dead is restarted, not ready is left out: a backend that is away must not restart the proxy."""
    asked = {name: container()[name]["httpGet"]["path"] for name in container() if name.endswith("Probe")}
    assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}


def test_the_pod_is_restricted() -> None:
    """As the restricted Pod Security Standard wants it, which the namespace enforces."""
    spec, inside = manifest("Deployment")["spec"]["template"]["spec"], container()["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert str(spec["securityContext"]["runAsUser"]) == str(spec["securityContext"]["fsGroup"]) == USER
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inside["allowPrivilegeEscalation"] is False
    assert inside["readOnlyRootFilesystem"] is True
    assert inside["capabilities"] == {"drop": ["ALL"]}


def test_what_the_pod_mounts_and_reads_is_there() -> None:
    spec = manifest("Deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    assert volumes["secrets"]["secret"]["secretName"] == manifest("Secret")["metadata"]["name"]
    claim = volumes["state"]["persistentVolumeClaim"]["claimName"]
    assert claim == manifest("PersistentVolumeClaim")["metadata"]["name"]
    env = {entry["name"]: entry["value"] for entry in container()["env"]}
    files = {value.removeprefix("file:") for value in env.values() if "/run/secrets/" in value}
    assert files == {f"{mounts['secrets']}/{name}" for name in manifest("Secret")["stringData"]}
    assert env["VASTPROXY_TUNNELS__STATE_DIR"] == mounts["state"]


def test_kubectl_puts_it_together() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)}
    assert made.keys() == {"Namespace", "PersistentVolumeClaim", "Deployment", "Service"}
    image = made["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "registry.example.com/vastproxy:0.1.0"
