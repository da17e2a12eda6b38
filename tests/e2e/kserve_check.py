"""Compares manifests with KServe's published Python models and their pods with Kubernetes' schemas.

Run with both there; it says of each manifest, on a line of its own, that it is valid or what is wrong with it. What
KServe's models do not say, such as what its webhooks refuse, is not checked.
"""

import re
import sys
from pathlib import Path

import kserve
import kubernetes_validate
import yaml

MODELS = {
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
}
PLAIN = {"str": str, "int": int, "bool": bool, "float": int | float}
OLDEST = "1.30"


def check(value, kind, place):
    """Raise ValueError unless a value is what one of KServe's types says, with no fields beside its own."""
    if of := re.fullmatch(r"list\[(.*)\]", kind):
        expect(isinstance(value, list), place, kind)
        for number, item in enumerate(value):
            check(item, of[1], f"{place}[{number}]")
    elif of := re.fullmatch(r"dict\(str, (.*)\)", kind):
        expect(isinstance(value, dict), place, kind)
        for key, item in value.items():
            check(item, of[1], f"{place}.{key}")
    elif kind in PLAIN:
        expect(isinstance(value, PLAIN[kind]) and (kind == "bool" or not isinstance(value, bool)), place, kind)
    elif hasattr(kserve, kind):
        model = getattr(kserve, kind)
        expect(isinstance(value, dict), place, kind)
        names = {key: name for name, key in model.attribute_map.items()}
        for key, item in value.items():
            expect(key in names, f"{place}.{key}", f"a field of {kind}")
            check(item, model.openapi_types[names[key]], f"{place}.{key}")
        model(**{names[key]: item for key, item in value.items()})  # it raises where a field is missing
    else:
        expect(kind.startswith("V1"), place, "a type of Kubernetes' or KServe's")  # Kubernetes' are checked in pods


def expect(holds, place, what):
    if not holds:
        raise ValueError(f"{place} must be {what}")


def verdict(path):
    try:
        validate(path)
    except (ValueError, kubernetes_validate.ValidationError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "valid"


def validate(path):
    for document in yaml.safe_load_all(Path(path).read_text()):
        check(document, MODELS[document["apiVersion"], document["kind"]], document["kind"])
        if document["kind"] == "ServingRuntime":
            spec = {key: document["spec"][key] for key in ("containers", "volumes")}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": document["metadata"], "spec": spec}
            for version in (OLDEST, kubernetes_validate.latest_version()):
                kubernetes_validate.validate(pod, version, strict=True)


if __name__ == "__main__":
    for manifest in sys.argv[1:]:
        print(verdict(manifest))
