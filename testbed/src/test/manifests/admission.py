"""Plays requests against the admission policies, and settings against the schema of the policies, with
Google's CEL for Python. Arguments: the folder of the manifests, and the table of settings, with which
the reader in Rust is tested too.

An API server evaluates the same expressions with cel-go. A validation that cannot be evaluated denies.
"""
import json
import re
import sys
from pathlib import Path

import yaml
from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings

FOLDER = Path(sys.argv[1])
EXTENSIONS = [ext_optional.ExtOptional(), ext_strings.ExtStrings()]
HEAL = "paramedic.dev/heal"


def evaluate(expression, data):
    env = cel.NewEnv(variables={name: cel.Type.DYN for name in data}, extensions=EXTENSIONS)
    return env.compile(expression).eval(data=data).plain_value()


def objects(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


class Fence:
    def __init__(self, file, name):
        kind = "ValidatingAdmissionPolicy"
        (found,) = [o for o in objects(file) if o["kind"] == kind and o["metadata"]["name"] == name]
        self.spec = found["spec"]

    def denies(self, **data):
        """The message of the first validation that denies; None if all permit."""
        variables = {}
        for variable in self.spec.get("variables", []):
            try:
                known = {**data, "variables": variables}
                variables[variable["name"]] = evaluate(variable["expression"], known)
            except Exception as error:
                variables[variable["name"]] = f"error: {error}"
        for validation in self.spec["validations"]:
            all_data = {**data, "variables": variables}
            try:
                if evaluate(validation["expression"], all_data) is True:
                    continue
            except Exception as error:
                return f"error: {error}"
            return validation.get("message") or evaluate(validation["messageExpression"], all_data)
        return None


USER = "system:serviceaccount:paramedic-system:paramedic-policy"
KEY = "paramedic.dev/"


def pod(labels=None, annotations=None, **more):
    metadata = {"name": "web-1", "ownerReferences": [{"name": "web"}]}
    for place, values in (("labels", labels), ("annotations", annotations)):
        if values is not None:
            metadata[place] = values
    spec = more.pop("spec", {"nodeName": "node1"})
    return {"metadata": {**metadata, **more}, "spec": spec}


def record(ceiling):
    return json.dumps({"policy": "web", "pod": "u", "set": {HEAL: ceiling}})


def policies():
    """What the policy controller may change on a pod, and what not."""
    fence = Fence("55-policy-fence.yaml", "paramedic-policy-pods")
    from_policy = KEY + "from-policy"
    plain = pod({"app": "web"})
    own = pod({"app": "web", HEAL: "soft"}, {"a": "b"})
    odd = pod({"app": "web", HEAL: "everything"}, {"a": "b"})
    ours = {"a": "b", from_policy: record("soft"), KEY + "ask": "evict"}
    set_by_us = pod({"app": "web", HEAL: "soft"}, ours)
    permitted = [
        (plain, pod({"app": "web", HEAL: "evict"}, {from_policy: record("evict")})),
        (pod(), pod({HEAL: "observe"}, {from_policy: record("observe"), KEY + "drain": "10s"})),
        (own, pod({"app": "web", HEAL: "soft"}, {"a": "b", from_policy: record("x"), KEY + "soft": "none"})),
        (odd, pod({"app": "web", HEAL: "everything"}, {"a": "b", KEY + "tls": "true"})),
        (set_by_us, pod({"app": "web", HEAL: "evict"}, {"a": "b", from_policy: record("evict")})),
        (set_by_us, pod({"app": "web"}, {"a": "b"})),
        (own, own),
    ]
    no_policy, no_label = "no policy has set", "only paramedic.dev/heal"
    no_annotation = "no such annotation"
    denied = [
        (plain, pod({"app": "web", HEAL: "evict"}), no_policy),
        (plain, pod({"app": "web", HEAL: "evict"}, {from_policy: "{}"}), no_policy),
        (own, pod({"app": "web", HEAL: "evict"}, {"a": "b", from_policy: record("evict")}), no_policy),
        (own, pod({"app": "web"}, {"a": "b"}), no_policy),
        (plain, pod({"app": "web", HEAL: "all"}, {from_policy: record("all")}), "is one of observe"),
        (plain, pod({"app": "db"}), no_label),
        (plain, pod({}), no_label),
        (plain, pod(), no_label),
        (plain, pod({"app": "web", "tier": "x"}), no_label),
        (plain, pod({"app": "web", KEY + "heal-at-most": "evict"}), no_label),
        (plain, pod({"app": "web", KEY + "serving": "true"}), no_label),
        (own, pod({"app": "web", HEAL: "soft"}, {}), no_annotation),
        (own, pod({"app": "web", HEAL: "soft"}, {"a": "c"}), no_annotation),
        (plain, pod({"app": "web"}, {"a": "b"}), no_annotation),
        (plain, pod({"app": "web"}, spec={"nodeName": "node2"}), "does not change the spec"),
        (plain, pod({"app": "web"}, ownerReferences=[]), "owners and finalizers"),
        (plain, pod({"app": "web"}, finalizers=["a/b"]), "owners and finalizers"),
    ]
    for key in ("approve", "quarantined", "drained-until", "paused", "record", "heal-path", "heal"):
        denied.append((plain, pod({"app": "web"}, {KEY + key: "x"}), no_annotation))
    request = {"operation": "UPDATE", "userInfo": {"username": USER}, "subResource": ""}
    for old, new in permitted:
        said = fence.denies(object=new, oldObject=old, request=request)
        assert said is None, f"{old} to {new}: {said}"
    for old, new, why in denied:
        said = fence.denies(object=new, oldObject=old, request=request)
        assert said and why in said, f"{old} to {new}: {said}"
    others = [
        {**request, "operation": "CREATE"},
        {**request, "subResource": "status"},
        {**request, "subResource": "ephemeralcontainers"},
        {**request, "operation": "CREATE", "subResource": "eviction"},
    ]
    for other in others:
        said = fence.denies(object=plain, oldObject=plain, request=other)
        assert said and "and nothing else" in said, f"{other}: {said}"
    return len(permitted) + len(denied) + len(others)


def evictions():
    """Which evictions an agent may ask for."""
    fence = Fence("20-fence.yaml", "paramedic-agent-evictions")
    of_node1 = {"authentication.kubernetes.io/node-name": ["node1"]}

    def asked(consent, cap, dry_run, node="node1", extra=of_node1, target="web-1"):
        labels = {} if consent is None else {HEAL: consent}
        namespace = {"metadata": {"name": "shop"}}
        if cap != "no labels":
            namespace["metadata"]["labels"] = {} if cap is None else {KEY + "heal-at-most": cap}
        return fence.denies(
            params=pod(labels, spec={"nodeName": node}),
            namespaceObject=namespace,
            request={"name": target, "namespace": "shop", "dryRun": dry_run, "userInfo": {"extra": extra}},
        )

    ranks = ["observe", "soft", "restart", "evict"]
    count = 0
    for consent in [None, *ranks, "all"]:
        for cap in [None, "no labels", *ranks, "all", ""]:
            for dry_run in (True, False):
                needed = 2 if dry_run else 3
                of = ranks.index(consent) if consent in ranks else 0
                most = 3 if cap in (None, "no labels") else ranks.index(cap) if cap in ranks else 0
                said = asked(consent, cap, dry_run)
                assert (said is None) == (min(of, most) >= needed), f"{consent} {cap} {dry_run}: {said}"
                if said and of >= needed:
                    assert f"heal-at-most={cap}" in said, said
                count += 1
    assert "not bound" in asked("evict", None, True, extra={})
    assert "runs on node2" in asked("evict", None, True, node="node2")
    assert asked("soft", "observe", False, target="another") is None, "another pod is no matter of this one"
    return count + 3


def changes():
    """What an agent may change on a pod: a drain, its end, a quarantine, and the limits."""
    pods = Fence("20-fence.yaml", "paramedic-agent-pods")
    resizes = Fence("20-fence.yaml", "paramedic-agent-resizes")
    of_node1 = {"authentication.kubernetes.io/node-name": ["node1"]}
    until, kept = KEY + "drained-until", KEY + "quarantined"
    serving, give_up = KEY + "serving", KEY + "give-up"

    def asked(fence, old, new, cap=None, extra=of_node1):
        labels = {} if cap is None else {KEY + "heal-at-most": cap}
        return fence.denies(
            object=new,
            oldObject=old,
            namespaceObject={"metadata": {"name": "shop", "labels": labels}},
            request={"name": "web-1", "namespace": "shop", "userInfo": {"extra": extra}},
        )

    def drain(ceiling, note=True):
        before, after = {HEAL: ceiling, serving: "true"}, {HEAL: ceiling, serving: "false"}
        return pod(before), pod(after, {until: "soon"} if note else {})

    def back(to="true"):
        return pod({serving: "false"}, {until: "soon"}), pod({serving: to}, {})

    def quarantine(ceiling="evict", wish="quarantine", left=None):
        before = {HEAL: ceiling, "app": "web"}
        return pod(before, {give_up: wish}), pod(left or {HEAL: ceiling}, {give_up: wish, kept: "{}"})

    def resize(ceiling, permitted=True):
        old = pod({HEAL: ceiling}, {KEY + "resize": "cpu=2x"} if permitted else {})
        return old, old

    restart, soft, observe = "restart", "soft", "observe"
    cases = [
        (pods, drain(restart), None, True),
        (pods, drain("evict"), restart, True),
        (pods, drain(restart), soft, False),
        (pods, drain(restart), "everything", False),
        (pods, drain(soft), None, False),
        (pods, drain(restart, note=False), None, False),
        (pods, back(), observe, True),
        (pods, back("false"), None, True),
        (pods, back("maybe"), None, False),
        (pods, quarantine(), None, True),
        (pods, quarantine(), restart, False),
        (pods, quarantine(ceiling=restart), None, False),
        (pods, quarantine(wish="evict"), None, False),
        (pods, quarantine(left={HEAL: "evict", "app": "db"}), None, False),
        (pods, quarantine(left={"app": "web"}), None, False),
        (pods, (pod({HEAL: "evict"}), pod({HEAL: "evict"}, {"a": "b"})), None, False),
        (pods, (drain(restart)[0], {**drain(restart)[1], "spec": {"nodeName": "node1", "x": 1}}), None, False),
        (resizes, resize(soft), None, True),
        (resizes, resize("evict"), soft, True),
        (resizes, resize("evict"), observe, False),
        (resizes, resize(observe), None, False),
        (resizes, resize(soft, permitted=False), None, False),
    ]
    for fence, (old, new), cap, good in cases:
        said = asked(fence, old, new, cap)
        assert (said is None) == good, f"{old} to {new} under {cap}: {said}"
        assert "error" not in (said or ""), said
    elsewhere = pod({HEAL: restart, serving: "true"}, spec={"nodeName": "node2"})
    for fence in (pods, resizes):
        assert "runs on node2" in asked(fence, elsewhere, elsewhere)
        assert "not bound" in asked(fence, *drain(restart), extra={})
    return len(cases) + 4


def valid(schema, value):
    """Whether the schema takes a value: patterns, bounds and rules, as far as ours use them."""
    kind = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        kind = "string" if isinstance(value, str) else "integer"
    numbers = {"integer": int, "number": (int, float)}
    kinds = {"string": str, "boolean": bool, "array": list, "object": dict, **numbers}
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    if kind == "string":
        fits = len(value) <= schema.get("maxLength", 1 << 30)
        if not fits or not re.search(schema.get("pattern", ""), value):
            return False
    if kind in numbers:
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            return False
    if kind == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1 << 30):
            return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if kind == "array" and not all(valid(schema["items"], item) for item in value):
        return False
    if kind == "object":
        fields = schema.get("properties", {})
        if any(name not in value for name in schema.get("required", [])):
            return False
        if not all(valid(fields[name], item) for name, item in value.items() if name in fields):
            return False
    rules = schema.get("x-kubernetes-validations", [])
    return all(evaluate(rule["rule"], {"self": value}) is True for rule in rules)


def settings():
    """What the definition takes of each setting: the table that the Rust reader is tested with too."""
    schema = objects("05-crds.yaml")[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema = schema["properties"]["spec"]
    table = json.loads(Path(sys.argv[2]).read_text())
    for field, value, good in table:
        spec = {"selector": {}, "ceiling": "evict", field: value}
        assert valid(schema, spec) == good, f"{field}: {value!r} is {'refused' if good else 'taken'}"
    return len(table)


print(
    f"CEL: {policies()} changes of pods by policies and {changes()} by agents, {evictions()} evictions, "
    f"{settings()} settings"
)
