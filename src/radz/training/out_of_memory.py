"""Out of memory: how it is told from other errors, and which settings help. Imports nothing heavy."""

from __future__ import annotations

# Lightning's is_oom_error knows fewer.
MARKS = (
    "can't allocate memory",  # torch's CPU allocator
    "not enough memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
TRAINING = (
    "set backbone.gradient_checkpointing=true",
    "set dfat.gradient_cache to a part of data.batch_size, such as 8, which keeps the loss of the whole batch",
    "lower data.batch_size, or raise backbone.image_pool or lower data.image_size (a backbone may take one size only)",
)
ADVICE = {
    "train": TRAINING,
    "sweep": TRAINING,
    "anchors": ("lower dfat.max_text_tokens", "set backbone.dtype=bfloat16", "use a smaller backbone"),
    "eval": ("lower data.eval_batch_size", "set data.workers=0", "score fewer corpora at a time"),
    "export": ("set dtype=bfloat16", "close other programs", "use a machine with more memory"),
}
"""What helps, in the order in which to try it."""
ELSE = ("close other programs", "give fewer or smaller files", "use a machine with more memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had no memory left."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OutOfMemoryError", "MemoryError"}) or (
        isinstance(error, RuntimeError) and any(mark in str(error) for mark in MARKS)
    )


def advice(verb: str) -> str:
    """One line: the settings that help a verb, in order."""
    steps = ADVICE.get(verb, ELSE)
    return f"out of memory; in this order: {'; '.join(f'{i}) {step}' for i, step in enumerate(steps, 1))}"
