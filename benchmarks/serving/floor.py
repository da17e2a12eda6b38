"""An application that does nothing: it reads the body of a request, and answers as many bytes as a guard would."""

from typing import Any

ANSWER = bytes(900)


async def app(_: Any, receive: Any, send: Any) -> None:
    """Answer one request."""
    while (await receive()).get("more_body", False):
        pass
    headers = [(b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})
