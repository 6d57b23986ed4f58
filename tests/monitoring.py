"""Checks what promtool does not: that each alert has a test and a runbook, and that the dashboard's queries are PromQL.

Writes the queries as recording rules, which promtool can read.
"""

import json
import sys

import yaml

monitoring, output = sys.argv[1:]


def load(name):
    with open(f"{monitoring}/{name}") as file:
        return yaml.safe_load(file)


def expected(test):
    """Returns the alerts that fire in a unit test."""
    return {check["alertname"] for check in test["alert_rule_test"] if check["exp_alerts"]}


rules = [rule for group in load("alerts.yaml")["groups"] for rule in group["rules"]]
alerts = [rule["alert"] for rule in rules]
fired = {alert for test in load("alerts.test.yaml")["tests"] for alert in expected(test)}
with open("src/guide/operating.md") as page:
    runbooks = page.read()
assert len(set(alerts)) == len(alerts), "an alert is defined twice"
for rule in rules:
    assert rule["alert"] in fired, f"{rule['alert']} has no test in which it fires"
    assert f"`{rule['alert']}`" in runbooks, f"{rule['alert']} has no runbook"
    assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]

with open(f"{monitoring}/dashboard.json") as file:
    panels = json.load(file)["panels"]
assert len({panel["id"] for panel in panels}) == len(panels)
queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
records = [
    {"record": f"dashboard:query:{n}", "expr": query.replace("$__rate_interval", "5m").replace("$job", ".+")}
    for n, query in enumerate(queries)
]
with open(output, "w") as file:
    yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}, file)
print(f"{len(alerts)} alerts have tests and runbooks; {len(queries)} queries")
