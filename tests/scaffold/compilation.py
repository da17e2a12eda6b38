"""What makes these tests quick, whose time is mostly compilation. To be imported before any of Keras's backends is."""

import functools
import importlib.util
import mmap
import os
import sys
import tempfile
import typing
from pathlib import Path

QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",
)
"""For XLA, by which small networks compile in a third of the time."""


def known_to_xla(flags):
    """Those of some flags that the XLA of this JAX knows: it ends the process at one that it does not."""
    libraries = Path(importlib.util.find_spec("jaxlib").origin).parent.glob("*.so")
    with max(libraries, key=lambda path: path.stat().st_size).open("rb") as file:
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return [flag for flag in flags if text.find(flag.strip("-").partition("=")[0].encode()) >= 0]


if os.environ.get("KERAS_BACKEND") == "jax":
    # The same programs are compiled again and again, for a few small batches.
    _compiled = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    os.environ["XLA_FLAGS"] = " ".join(known_to_xla(QUICK_TO_COMPILE))


def less_for_each_trace():
    """Have TensorFlow trace small networks in half the time: without what only large ones, or people, profit from."""
    import keras
    import tensorflow as tf
    from tensorflow.python.util import tf_stack

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # rewrites graphs, to run faster
    tf.debugging.disable_traceback_filtering()
    keras.config.disable_traceback_filtering()
    here = tf_stack.extract_stack()  # each operation of a graph remembers from where it came
    tf_stack.extract_stack = lambda *_, **__: here


if os.environ.get("KERAS_BACKEND") == "torch":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # networks so small are slower on two threads than on one
if sys.version_info < (3, 12):
    # TensorFlow asks of each operand whether it keeps a protocol, and Python 3.11 collects what that is at each time.
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)
