"""The messages of the Open Inference Protocol over gRPC.

They live in a descriptor pool of their own: clients and other servers in the same process bring messages of the same
names, which protobuf's common pool would not take twice.
"""

from pathlib import Path
from typing import Any

from demur.extras import extra

with extra("protobuf", "grpc"):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
PROTO = Path(__file__).with_name("open_inference_grpc.proto")
DESCRIPTORS = PROTO.with_suffix(".binpb")
"""What protoc makes of it; README.md says how."""


def _messages() -> dict[str, Any]:
    """The classes of the protocol's messages by name, without the package's."""
    pool = descriptor_pool.DescriptorPool()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindFileByName(file.name).message_types_by_name
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


MESSAGES = _messages()
