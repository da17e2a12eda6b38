"""For an environment with MLServer: reads cases from standard input, and says what the runtime makes of them."""

import asyncio
import json
import sys

from mlserver.errors import MLServerError
from mlserver.settings import ModelSettings
from mlserver.types import InferenceRequest

from demur.integrations.mlserver import GuardRuntime


async def outcome(case):
    """What becomes of a model with these settings, and of a request to it."""
    try:
        model = GuardRuntime(ModelSettings.model_validate(case["settings"]))
        assert await model.load()
        if "request" not in case:
            return (await model.metadata()).model_dump(mode="json")
        return (await model.predict(InferenceRequest.model_validate(case["request"]))).model_dump(mode="json")
    except MLServerError as error:
        return {"error": type(error).__name__, "status": error.status_code, "message": str(error)}


async def main():
    outcomes = [await outcome(case) for case in json.load(sys.stdin)]
    heavy = sorted({"keras", "h5py", "tensorflow", "torch", "jax"} & set(sys.modules))
    json.dump({"outcomes": outcomes, "heavy": heavy}, sys.stdout)


asyncio.run(main())
