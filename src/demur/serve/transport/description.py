"""The description of the HTTP interface, as OpenAPI has it: for clients that are generated, and for fuzzers."""

import math
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from demur.serve.serving.protocol import DATATYPES, MAX_DIMENSIONS, datatype_of
from demur.serve.serving.service import Service

Schema = dict[str, Any]


def _object(required: list[str], properties: Schema, **more: Any) -> Schema:
    return {"type": "object", "required": required, "properties": properties, **more}


PARAMETERS: Schema = {"type": "object", "description": "Parameters that have no meaning here are passed over."}
NUMBER: Schema = {"anyOf": [{"type": "number"}, {"type": "boolean"}]}
SCHEMAS: Schema = {
    "Error": _object(["error"], {"error": {"type": "string"}, "request_id": {"type": "string"}}),
    "Tensor": {
        "type": "array",
        "description": "All elements, row after row, or lists nested as the shape says.",
        "items": {"anyOf": [NUMBER, {"$ref": "#/components/schemas/Tensor"}]},
    },
    "InferInput": _object(
        ["name", "shape", "datatype"],
        {
            "name": {"type": "string"},
            "shape": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0},
                "minItems": 1,
                "maxItems": MAX_DIMENSIONS,
                "description": "The first size is the number of rows; the others are as the model's metadata say.",
            },
            "datatype": {"type": "string", "enum": list(DATATYPES)},
            "parameters": {
                **PARAMETERS,
                "properties": {
                    "binary_data_size": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "Bytes of the tensor in the body after the JSON, in place of data.",
                    }
                },
            },
            "data": {"$ref": "#/components/schemas/Tensor"},
        },
    ),
    "InferRequest": _object(
        ["inputs"],
        {
            "id": {"type": "string"},
            "parameters": {
                **PARAMETERS,
                "properties": {
                    "threshold": {"type": "number", "description": "In nats; where the operator allows it."},
                    "binary_data_output": {"type": "boolean"},
                },
            },
            "inputs": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/InferInput"}},
            "outputs": {
                "type": "array",
                "items": _object(
                    ["name"],
                    {
                        "name": {"type": "string"},
                        "parameters": {**PARAMETERS, "properties": {"binary_data": {"type": "boolean"}}},
                    },
                ),
            },
        },
    ),
    "InferResponse": _object(
        ["model_name", "model_version", "outputs"],
        {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {
                "type": "array",
                "items": _object(
                    ["name", "shape", "datatype"],
                    {
                        "name": {"type": "string"},
                        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                        "datatype": {"type": "string", "enum": list(DATATYPES)},
                        "parameters": _object([], {"binary_data_size": {"type": "integer", "minimum": 0}}),
                        "data": {
                            "type": "array",
                            "description": "All elements, row after row; null for infinity, the score of a row that "
                            "cannot be judged, and for NaN, which JSON does not have.",
                            "items": {"anyOf": [*NUMBER["anyOf"], {"type": "null"}]},
                        },
                    },
                ),
            },
        },
    ),
    "ServerMetadata": _object(
        ["name", "version", "extensions"],
        {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "extensions": {"type": "array", "items": {"type": "string"}},
        },
    ),
    "TensorMetadata": _object(
        ["name", "datatype", "shape"],
        {
            "name": {"type": "string"},
            "datatype": {"type": "string", "enum": list(DATATYPES)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        },
    ),
    "ModelMetadata": _object(
        ["name", "versions", "platform", "inputs", "outputs"],
        {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorMetadata"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/TensorMetadata"}},
            "classes": {
                "type": "array",
                "items": {"anyOf": [*NUMBER["anyOf"], {"type": "string"}]},
                "description": "What the classes are called, where that is known: corrected, no_defense and defense "
                "are indices in this list.",
            },
        },
    ),
    "ServerLive": _object(["live"], {"live": {"type": "boolean"}}),
    "ServerReady": _object(["live", "ready"], {"live": {"type": "boolean"}, "ready": {"type": "boolean"}}),
    "AlarmEnded": _object(["name", "alarm"], {"name": {"type": "string"}, "alarm": {"type": "boolean"}}),
    "ModelReady": _object(["name", "ready"], {"name": {"type": "string"}, "ready": {"type": "boolean"}}),
}

ERRORS = {
    "400": "The request is malformed, or does not fit the model.",
    "401": "A key is needed.",
    "403": "It is asked by a page of another site, and there are no keys.",
    "404": "There is no such model or version.",
    "408": "The body came too slowly.",
    "413": "The body is too large, or has too many rows.",
    "415": "The body is compressed in a way that is not supported, or not said to be JSON where that is needed.",
    "421": "It is meant for a server of another name, and there are no keys.",
    "500": "Something went wrong in the server; its log says what, under the request id.",
    "503": "The queue is full, or the server shuts down; Retry-After says when to try again.",
    "504": "There was no answer in time.",
}


def _json(schema: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _operation(summary: str, schema: str, *errors: str, **more: Any) -> Schema:
    """An operation that answers with a schema, or with one of these errors, or those that any operation may have."""
    responses: Schema = {"200": {"description": "The answer.", "content": _json(schema)}}
    for status in sorted({*errors, "403", "421"}):
        responses[status] = {"description": ERRORS[status], "content": _json("Error")}
    return {"summary": summary, "responses": responses, **more}


BINARY: Schema = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
HEADER_LENGTH: Schema = {
    "description": "How much of the body is JSON, where binary tensors follow it.",
    "schema": {"type": "integer", "minimum": 0},
}

LIVE = _operation("Whether the server runs", "ServerLive", security=[])
READY = _operation("Whether the server takes requests", "ServerReady", security=[])
READY["responses"]["503"] = {"description": "It does not.", "content": _json("ServerReady")}
SERVER = _operation("What the server is", "ServerMetadata", "401")
MODEL = _operation("What a model takes and returns", "ModelMetadata", "401", "404")
MODEL_READY = _operation("Whether a model takes requests", "ModelReady", "401", "404")
MODEL_READY["responses"]["503"] = {"description": "It does not.", "content": _json("ModelReady")}
RESET = _operation(
    "End a drift alarm, and gather evidence anew",
    "AlarmEnded",
    "401",
    "404",
    "415",
    requestBody={
        "description": "Nothing in it matters but its type: pages of other sites cannot send JSON unasked.",
        "content": {"application/json": {"schema": {}, "examples": {"nothing": {"value": {}}}}},
    },
)
METRICS = _operation("Figures for Prometheus", "Error", "401")
METRICS["responses"]["200"] = {
    "description": "The figures.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}
INFER = _operation(
    "Score, flag and correct rows",
    "InferResponse",
    *(status for status in ERRORS),
    requestBody={
        "required": True,
        "description": "JSON; or JSON and binary tensors after it, with the header Inference-Header-Content-Length.",
        "content": _json("InferRequest"),
    },
)
INFER["responses"]["200"]["content"] |= BINARY
INFER["responses"]["200"]["headers"] = {"Inference-Header-Content-Length": HEADER_LENGTH}


def path_parameters(*, versioned: bool) -> Schema:
    """The description of the parameters that a model's path has."""
    names = {"name": "The model."} | ({"version": "Of the model: one of its metadata's versions."} if versioned else {})
    return {
        "parameters": [
            {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}
            for name, text in names.items()
        ]
    }


def describe(app: FastAPI, service: Service) -> Schema:
    """The description of all routes, for the models that are served now."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        routes=app.routes,
        openapi_version=app.openapi_version,
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(SCHEMAS)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}, {}]
    examples = {name: {"value": example(served.guard)} for name, served in service.models.items()}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "name" and path.startswith(("/v2/models/", "/live/")):
                    parameter["schema"] = {"type": "string", "enum": list(service.models)}
            if path.endswith("/infer"):
                content = _json("InferRequest")
                content["application/json"]["examples"] = examples
                operation["requestBody"] = {**operation["requestBody"], "content": content}
    return document


def example(guard: Any) -> Schema:
    """A request of one row of zeros."""
    inputs = []
    for name, field in guard.inputs.items():
        shape = [1, *(size or 1 for size in field.shape)]
        datatype = datatype_of(field.dtype or "float32")
        zero = False if datatype == "BOOL" else 0
        inputs.append({"name": name, "shape": shape, "datatype": datatype, "data": [zero] * math.prod(shape)})
    return {"inputs": inputs}
