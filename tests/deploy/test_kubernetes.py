"""The kustomizations, built by kubectl and held to the schemas of Kubernetes and of what is used of KEDA."""

import subprocess
import sys
from base64 import b64decode
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from tests.deploy.keda import ScaledObject, TriggerAuthentication
from tests.deploy.reading import DEPLOY, VARIABLES, example, settings_of
from workers.gateway.transport import OPEN_PATHS

KUBECTL = Path(sys.executable).parent / "kubectl"
OVERLAYS = ["dev", "prod"]
VERSIONS = ["1.29", "1.37"]
KEDA = "keda.sh/v1alpha1"
OF_FLOWER = {"FLOWER_BASIC_AUTH"}
SIGNING_KEYS = '{"k1": "' + "A" * 43 + '="}'

Manifest = dict[str, Any]


@cache
def built(overlay: str) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(
        [KUBECTL, "kustomize", DEPLOY / "kubernetes" / overlay], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def of_kind(overlay: str, *kinds: str) -> list[Manifest]:
    return [manifest for manifest in built(overlay) if manifest["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Manifest:
    [found] = [one for one in of_kind(overlay, kind) if one["metadata"]["name"] == name]
    return found


def pods(overlay: str) -> list[tuple[str, Manifest]]:
    """The pods of the program, without the stores of dev."""
    found = of_kind(overlay, "Deployment", "Job")
    return [(one["metadata"]["name"], one["spec"]["template"]["spec"]) for one in found]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_holds_to_its_schema(overlay: str, version: str) -> None:
    checked = [manifest for manifest in built(overlay) if manifest["apiVersion"] != KEDA]
    assert len(checked) > 10
    for manifest in checked:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_is_misspelt_would_be_seen() -> None:
    wrong = {**named("prod", "Deployment", "chatkit-gateway")}
    wrong["spec"] = {**wrong["spec"], "replica": 3}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)
    with pytest.raises(ValidationError):
        ScaledObject.model_validate({**named("prod", "ScaledObject", "chatkit-worker")["spec"], "minReplicas": 1})


def test_workers_are_scaled_by_what_the_gateway_wants() -> None:
    spec = ScaledObject.model_validate(named("prod", "ScaledObject", "chatkit-worker")["spec"])
    [trigger] = spec.triggers
    worker = named("prod", "Deployment", spec.scale_target_ref.name)
    assert "replicas" not in worker["spec"], "an apply would undo what KEDA has decided"
    assert (trigger.metadata.value_location, trigger.metadata.target_value) == ("desired_workers", "1")
    [config] = [one["data"] for one in of_kind("prod", "ConfigMap")]
    assert trigger.metadata.url == f"{config['CHATKIT_PUBLIC_URL']}/v1/scale"
    bounds = (config["CHATKIT_SCALE_MIN"], config["CHATKIT_SCALE_MAX"])
    assert bounds == (str(spec.min_replica_count), str(spec.max_replica_count)), "two that decide must not disagree"
    authentication = TriggerAuthentication.model_validate(
        named("prod", "TriggerAuthentication", trigger.authentication_ref.name)["spec"]
    )
    assert {ref.key for ref in authentication.secret_target_ref} <= example("kubernetes/prod/secret.env.example").keys()
    behavior = spec.advanced.horizontal_pod_autoscaler_config.behavior
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "as-keda-makes-it"},
        "spec": {"maxReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "x"}, "behavior": behavior},
    }
    kubernetes_validate.validate(hpa, VERSIONS[0], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_no_rights_and_a_bound_of_memory(overlay: str) -> None:
    for name, pod in pods(overlay):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert ":" in container["image"].rpartition("/")[2]
        assert not container["image"].endswith(":latest")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_worker_is_given_more_time_than_it_takes_to_drain_and_a_gateway_leaves_before_it_stops(overlay: str) -> None:
    [config] = of_kind(overlay, "ConfigMap")
    spec = dict(pods(overlay))
    grace = spec["chatkit-worker"]["terminationGracePeriodSeconds"]
    assert grace >= float(config["data"]["CHATKIT_DRAIN_SECONDS"]) + 10
    [gateway] = spec["chatkit-gateway"]["containers"]
    slept = int(gateway["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert spec["chatkit-gateway"]["terminationGracePeriodSeconds"] >= slept + 10


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_what_the_gateway_answers_without_tls(overlay: str) -> None:
    [gateway] = dict(pods(overlay))["chatkit-gateway"]["containers"]
    probes = {name: gateway[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {probe["path"] for probe in probes.values()} <= set(OPEN_PATHS)
    assert probes["readinessProbe"]["path"] == "/readyz"
    assert probes["livenessProbe"]["path"] == "/healthz", "a store that is away must not restart the gateways"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_their_pods(overlay: str) -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind(overlay, "Deployment", "StatefulSet")]
    selectors = [one["spec"]["selector"] for one in of_kind(overlay, "Service")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind(overlay, "PodDisruptionBudget")]
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in of_kind(overlay, "NetworkPolicy")]
    for selector in selectors:
        assert any(selector.items() <= found.items() for found in labels), selector


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_ingress_and_prometheus_get_in_and_gateways_alone_are_reached(overlay: str) -> None:
    everything = named(overlay, "NetworkPolicy", "chatkit")["spec"]
    assert everything["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "chatkit"}
    assert "Ingress" in everything["policyTypes"]
    assert "ingress" not in everything, "by default nobody"
    [rule] = named(overlay, "NetworkPolicy", "chatkit-gateway")["spec"]["ingress"]
    spaces = [one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in rule["from"]]
    assert spaces == ["ingress-nginx", "monitoring"]


def test_the_ingress_speaks_tls_and_does_not_buffer() -> None:
    ingress = named("prod", "Ingress", "chatkit")
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] in ingress["spec"]["tls"][0]["hosts"]
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    services = {one["metadata"]["name"] for one in of_kind("prod", "Service")}
    for path in rule["http"]["paths"]:
        assert path["backend"]["service"]["name"] in services


def test_prod_has_no_secret_in_a_file() -> None:
    assert of_kind("prod", "Secret") == []
    for _, pod in pods("prod"):
        [container] = pod["containers"]
        assert {"secretRef": {"name": "chatkit"}} in container["envFrom"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_program_takes_the_settings(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [config] = of_kind(overlay, "ConfigMap")
    given = dict(config["data"])
    if overlay == "prod":
        secret = example("kubernetes/prod/secret.env.example") | {"CHATKIT_SIGNING_KEYS": SIGNING_KEYS}
        given |= {name: value.replace("…", "x") for name, value in secret.items() if name != "SCALE_KEY"}
    else:
        [found] = of_kind("dev", "Secret")
        given |= {name: b64decode(value).decode() for name, value in found["data"].items()}
    assert given.keys() - OF_FLOWER <= VARIABLES
    settings = settings_of(given, monkeypatch)
    assert settings.public_url
    assert settings.service_keys
