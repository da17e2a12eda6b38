"""Requests as bytes: rows as a binary tensor, as flat JSON and as nested JSON, each with its head of HTTP."""

import json
from collections.abc import Callable
from typing import Any

INFER = "/v2/models/guard/infer"
HEADER_LENGTH = "Inference-Header-Content-Length"


def framed(body: bytes, path: str = INFER, **headers: Any) -> bytes:
    """A POST request; underscores in names of headers become hyphens."""
    fields = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": len(body)}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def document(X: Any, **more: Any) -> dict[str, Any]:
    """A request about rows, as it is written in JSON, without the data."""
    return {"inputs": [{"name": "x", "shape": list(X.shape), "datatype": "FP32", **more}]}


def binary_body(X: Any) -> tuple[bytes, int]:
    """JSON and the tensor after it, and how much is JSON; all outputs are asked for as binary tensors, too."""
    asked = document(X, parameters={"binary_data_size": X.nbytes}) | {"parameters": {"binary_data_output": True}}
    head = json.dumps(asked).encode()
    return head + X.tobytes(), len(head)


def binary(X: Any, path: str = INFER) -> bytes:
    body, length = binary_body(X)
    return framed(body, path, Content_Type="application/octet-stream", **{HEADER_LENGTH: length})


def flat_json(X: Any, path: str = INFER) -> bytes:
    return framed(json.dumps(document(X, data=X.ravel().tolist())).encode(), path)


def nested_json(X: Any, path: str = INFER) -> bytes:
    return framed(json.dumps(document(X, data=X.tolist())).encode(), path)


FORMS: dict[str, Callable[..., bytes]] = {"binary": binary, "flat JSON": flat_json, "nested JSON": nested_json}
