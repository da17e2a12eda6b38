"""For an environment with KServe: its own client asks a server, and says what it got."""

import asyncio
import json
import sys

from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(base, name, rows):
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    data = InferInput("x", list(rows.shape), "FP32")
    data.set_data_from_numpy(rows, binary_data=False)
    response = await client.infer(base, InferRequest(name, [data]), model_name=name)
    json.dump(
        {
            "live": await client.is_server_live(base),
            "ready": await client.is_server_ready(base),
            "model_ready": await client.is_model_ready(base, name),
            "outputs": {output.name: output.as_numpy().tolist() for output in response.outputs},
        },
        sys.stdout,
    )


if __name__ == "__main__":
    import numpy as np

    asyncio.run(main(sys.argv[1], sys.argv[2], np.array(json.load(sys.stdin), "float32")))
