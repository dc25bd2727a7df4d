"""What the engine says of itself: the answer to the channel's `status`, and what the gateway shows under /status."""

from pydantic import BaseModel, ConfigDict

from localmodel.api.predict import Signature, Task


class EngineStatus(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model_version: str
    task: Task = "TextGeneration"
    architecture: str
    """From config.json, such as LlamaForCausalLM; of a Predict model the file's format."""
    parameters: int
    dtype: str
    device: str
    context_window: int
    max_batch_size: int
    running: int
    waiting: int
    kv_tokens_capacity: int
    kv_tokens_used: int
    weights_bytes: int
    """These three are of the first rank, where several share the network; the others hold as much."""
    kv_bytes: int
    memory_bytes: int
    """Measured: resident bytes of the engine's process on a CPU, allocator's peak on a GPU."""
    load_seconds: float
    tokens_total: int
    steps_total: int
    drafted_tokens_total: int = 0
    """Tokens guessed from the text so far and verified in steps that computed other tokens anyway."""
    accepted_tokens_total: int = 0
    """Those of them that were right: so many steps were saved."""
    prefix_tokens_total: int = 0
    """Prompt tokens that were not computed, because the cache held them."""
    preemptions_total: int = 0
    """How often the cache was full, and the youngest sequence gave up its part and was computed anew later."""
    step_age_seconds: float
    """Seconds since the running step began; 0 when idle. A large value means a hung step."""
    signature: Signature | None = None
    """Of a Predict model."""
    example: tuple[tuple[int, ...], ...] = ()
    """Of a Predict model: for each input a shape that it has computed."""
    rows_total: int = 0
    """Of a Predict model: rows computed in all steps."""
