"""Requests that were good, and then changed: bits, lengths, nesting, compression."""

import gzip
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .bodies import FORMS, HEADER_LENGTH, INFER, binary_body, document, framed

LARGEST = 4 << 20
"""Bytes that the server takes as a body."""
BOMB = gzip.compress(bytes(1 << 30), 9)
"""A gibibyte of zeros."""
VALUES: list[Any] = [None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, 1e308, -0.5, "", "x", "\ud800", [], {}, [[]]]
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999999", "-1e999999", "9" * 5000, "0x10", "01", "1.", ".5", "-", "1e")


class Mutation(NamedTuple):
    """What to send.

    Attributes:
        kind: what was done to it.
        data: all of it.
        ends: whether the sender says that nothing more comes.
        may_close: whether the server may close the connection without an answer: what came is no request.
    """

    kind: str
    data: bytes
    ends: bool = False
    may_close: bool = False


def mutations(X: Any, count: int) -> Iterator[Mutation]:
    """So many of all kinds, in turn; the slow ones more seldom."""
    rng = random.Random(0)
    kinds: list[Callable[[Any, random.Random], Mutation]] = [
        bits_of_the_body,
        bits_of_the_head,
        cut_body,
        header_length,
        binary_size,
        shape,
        replaced_value,
        number,
        removed_key,
        random_json,
        random_bytes,
        compressed,
    ]
    rare = [nested, large, gzip_bomb, missing_rest, cut_and_ended]
    for i in range(count):
        make = rare[i // 40 % len(rare)] if i % 40 == 39 else kinds[i % len(kinds)]
        start = rng.randrange(len(X) - 1)
        yield make(X[start : start + rng.choice((1, 1, 1, 2))], rng)


def _any(x: Any, rng: random.Random) -> bytes:
    return rng.choice(list(FORMS.values()))(x)


def _flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def bits_of_the_body(x: Any, rng: random.Random) -> Mutation:
    head, gap, body = _any(x, rng).partition(b"\r\n\r\n")
    return Mutation("bits of the body", head + gap + _flipped(body, rng))


def bits_of_the_head(x: Any, rng: random.Random) -> Mutation:
    head, gap, body = _any(x, rng).partition(b"\r\n\r\n")
    return Mutation("bits of the head", _flipped(head, rng) + gap + body, may_close=True)


def cut_body(x: Any, rng: random.Random) -> Mutation:
    """Shorter, and its length is said rightly."""
    if rng.random() < 0.5:
        body, length = binary_body(x)
        return Mutation("cut body", framed(body[: rng.randrange(len(body))], **{HEADER_LENGTH: length}))
    body = _any(x, rng).partition(b"\r\n\r\n")[2]
    return Mutation("cut body", framed(body[: rng.randrange(len(body))]))


def header_length(x: Any, rng: random.Random) -> Mutation:
    body, length = binary_body(x)
    wrong = rng.choice(
        (0, -1, length - 1, length + 1, len(body), len(body) + 1, 10**30, "x", "", "1.0", " ", "+5", "٣")
    )
    data = framed(body, **{HEADER_LENGTH: "\0"}).replace(b"\0", str(wrong).encode(), 1)
    return Mutation("length of the JSON", data)


def binary_size(x: Any, rng: random.Random) -> Mutation:
    size = rng.choice((0, 1, x.nbytes - 4, x.nbytes + 4, 2**31, 2**63, -4, 4.0, "3136", True, None, []))
    head = json.dumps(document(x, parameters={"binary_data_size": size})).encode()
    return Mutation("binary_data_size", framed(head + x.tobytes(), **{HEADER_LENGTH: len(head)}))


def shape(x: Any, rng: random.Random) -> Mutation:
    sizes = list(x.shape)
    sizes[rng.randrange(len(sizes))] = rng.choice((0, -1, 1, 29, 2**31, 2**62, 2**64, 1.0, "1", None, [1]))
    if rng.random() < 0.3:
        sizes = rng.choice(([], sizes * 20, [x.size], sizes[::-1], [2**32, 2**32, 1], [0, 2**62, 4]))
    asked = document(x, data=x.ravel().tolist())
    asked["inputs"][0]["shape"] = sizes
    return Mutation("shape", framed(json.dumps(asked).encode()))


def _places(found: Any) -> list[tuple[Any, Any]]:
    """Each place in JSON: what holds it, and its key or index; of long lists the first few."""
    items = list(found.items()) if isinstance(found, dict) else list(enumerate(found[:3]))
    here = [(found, key) for key, _ in items]
    return here + [place for _, value in items if isinstance(value, dict | list) for place in _places(value)]


def _asked(x: Any) -> dict[str, Any]:
    """A request with all that it may have."""
    outputs = [{"name": "corrected", "parameters": {"binary_data": False}}]
    parameters = {"binary_data_output": False}
    return {"id": "1", **document(x, data=x.tolist()), "outputs": outputs, "parameters": parameters}


def replaced_value(x: Any, rng: random.Random) -> Mutation:
    asked = _asked(x)
    holder, key = rng.choice(_places(asked))
    holder[key] = rng.choice(VALUES)
    return Mutation("replaced value", framed(json.dumps(asked).encode()))


def number(x: Any, rng: random.Random) -> Mutation:
    text = json.dumps(document(x, data=x.ravel().tolist()))
    spots = [match.span() for match in re.finditer(r"(?<=[\[ ])[\d.]+(?=[,\]])", text)]
    start, end = rng.choice(spots)
    return Mutation("numbers that are none", framed((text[:start] + rng.choice(NUMBERS) + text[end:]).encode()))


def removed_key(x: Any, rng: random.Random) -> Mutation:
    asked = _asked(x)
    holder, key = rng.choice(_places(asked))
    if isinstance(holder, dict) and rng.random() < 0.5:
        holder["é" + str(key) * rng.choice((1, 10_000))] = holder[key]
    del holder[key]
    return Mutation("removed or renamed", framed(json.dumps(asked).encode()))


def random_json(x: Any, rng: random.Random) -> Mutation:
    del x

    def value(depth: int) -> Any:
        kind = rng.randrange(8 if depth else 6)
        if kind == 6:
            return [value(depth - 1) for _ in range(rng.randrange(5))]
        if kind == 7:
            names = ("inputs", "name", "shape", "datatype", "data", "parameters", "outputs", "id", "x")
            return {rng.choice(names): value(depth - 1) for _ in range(rng.randrange(6))}
        return rng.choice((*VALUES, "FP32", "BOOL", "BYTES", "INT8", rng.random(), rng.randrange(-999, 999)))

    return Mutation("random JSON", framed(json.dumps({"inputs": [value(4)], "parameters": value(2)}).encode()))


def random_bytes(x: Any, rng: random.Random) -> Mutation:
    del x
    return Mutation("random bytes", framed(rng.randbytes(rng.randrange(5000)), **{HEADER_LENGTH: rng.randrange(6000)}))


def compressed(x: Any, rng: random.Random) -> Mutation:
    head, _, body = FORMS["flat JSON"](x).partition(b"\r\n\r\n")
    del head
    packed = rng.choice((gzip.compress, zlib.compress))(body)
    packed = rng.choice((packed, _flipped(packed, rng), packed[: rng.randrange(len(packed))], packed * 2, body))
    encoding = rng.choice(("gzip", "deflate", "br", "identity", "gzip, gzip", "GZIP", "\t"))
    return Mutation("compressed", framed(packed, Content_Encoding=encoding))


def nested(x: Any, rng: random.Random) -> Mutation:
    """Brackets upon brackets: 100,000 and more."""
    depth = rng.choice((17, 1000, 100_000, 1_000_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    bomb = opening * depth + "0" + closing * rng.choice((depth, 0))
    asked = json.dumps(document(x, data="BOMB")).replace('"BOMB"', bomb)
    return Mutation("nested deeply", framed(rng.choice((bomb, asked)).encode()), may_close=depth == 1_000_000)


def large(x: Any, rng: random.Random) -> Mutation:
    """As much JSON as a body may hold, half the time compressed to next to nothing."""
    unit = rng.choice((b"[", b"[]", b"[],", b"{},", b"0,", b"0.5,", b'"",', b"\\"))
    head, tail = json.dumps(document(x, data="HERE")).encode().split(b'"HERE"')
    body = head + b"[" + unit * ((LARGEST - 300) // len(unit)) + b"0]" + tail
    if rng.random() < 0.5:
        return Mutation("large JSON", framed(gzip.compress(body, 1), Content_Encoding="gzip"))
    return Mutation("large JSON", framed(body))


def gzip_bomb(x: Any, rng: random.Random) -> Mutation:
    del x
    if rng.random() < 0.5:
        return Mutation("gzip bomb", framed(BOMB, Content_Encoding="gzip"))
    brackets = gzip.compress(b"[" * 3_000_000, 9)
    return Mutation("gzip bomb", framed(brackets, Content_Encoding="gzip"))


def missing_rest(x: Any, rng: random.Random) -> Mutation:
    """Less than was announced, and the sender waits."""
    request = _any(x, rng)
    return Mutation("the rest is missing", request[: -rng.randrange(1, len(request) // 2)])


def cut_and_ended(x: Any, rng: random.Random) -> Mutation:
    """Less than was announced, and the sender says so: who has gone gets no answer."""
    request = _any(x, rng)
    data = request[: -rng.randrange(1, len(request) - len(INFER))]
    return Mutation("ended too early", data, ends=True, may_close=True)
