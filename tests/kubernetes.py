"""Checks what no schema can: that the parts of a manifest match each other."""

import sys

import yaml


def check(path):
    with open(path) as file:
        documents = list(yaml.safe_load_all(file))
    kinds = {document["kind"]: document for document in documents}
    workload = kinds.get("StatefulSet") or kinds["Deployment"]
    template = workload["spec"]["template"]
    labels = template["metadata"]["labels"]
    container = template["spec"]["containers"][0]
    ports = {port["name"] for port in container["ports"]}

    assert workload["spec"]["selector"]["matchLabels"] == labels
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    for service in (document for document in documents if document["kind"] == "Service"):
        assert service["spec"]["selector"] == labels, service["metadata"]["name"]
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    for rule in kinds["NetworkPolicy"]["spec"]["ingress"]:
        assert all(port["port"] in ports for port in rule["ports"])
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    grace = template["spec"]["terminationGracePeriodSeconds"]
    assert grace > container["lifecycle"]["preStop"]["sleep"]["seconds"] + 10

    if workload["kind"] == "StatefulSet":
        check_nodes(documents, workload, container)


def check_nodes(documents, workload, container):
    """Checks that nodes look for each other under their own names."""
    name, spec = workload["metadata"]["name"], workload["spec"]
    headless = next(d for d in documents if d["spec"].get("clusterIP") == "None")
    assert headless["metadata"]["name"] == spec["serviceName"]
    assert headless["spec"]["publishNotReadyAddresses"] is True
    url = next(env["value"] for env in container["env"] if env["name"] == "STEADFAST_STORE")
    settings = dict(setting.split("=") for setting in url.split("?")[1].split("&"))
    port = headless["spec"]["ports"][0]["port"]
    nodes = [f"{name}-{n}.{spec['serviceName']}:{port}" for n in range(spec["replicas"])]
    assert settings["seeds"].split(",") == nodes
    assert settings["bind"].endswith(f":{port}")
    assert settings["secret-file"].startswith(container["volumeMounts"][0]["mountPath"])


for manifest in sys.argv[1:]:
    check(manifest)
    print(f"{manifest}: its parts match")
