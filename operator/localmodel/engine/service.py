"""A text generator as it is served: one loaded model, its engine and its ranks, behind a channel.

Why it exists: the Triton shim and the tests start the same thing. It must not know Triton.
"""

import sys
from collections.abc import Callable
from functools import partial

import torch

from localmodel.api.engine import EngineConfig
from localmodel.api.engine_status import EngineStatus
from localmodel.engine import cpu_kernels
from localmodel.engine.blocks import BlockPool
from localmodel.engine.card_steps import room_beside
from localmodel.engine.channel_service import ChannelService
from localmodel.engine.engine import Engine
from localmodel.engine.failures import RankFailed
from localmodel.engine.housekeeping import QUIET_SECONDS, release_memory, settle
from localmodel.engine.json_schema import JsonSchemas
from localmodel.engine.launching import make_launch
from localmodel.engine.loader import LoadedModel, load_model, threads_of_rank
from localmodel.engine.ranks import Ranks
from localmodel.engine.resident import resident_bytes
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.speculation import Speculation, for_card
from localmodel.engine.team import Alone

SWITCH_SECONDS = 0.002
"""After so long a thread that waits for the interpreter is given it. Longer than the host's work for a step, so that it is not
taken away in its midst; shorter than Python's 5 ms, which may be several steps that the thread that sends waits for."""


class EngineService(ChannelService):
    def __init__(self, config: EngineConfig, *, log: Callable[[str], None], exit_process: Callable[[], None]) -> None:
        """Loads the model. Raises LoadError. Nothing runs before `start`."""
        super().__init__(config, log, exit_process)
        self._ranks = Ranks(config, self._rank_failed, self._rank_failed_in_load) if config.ranks > 1 else None
        try:
            self._model = model = load_model(config, self._ranks or Alone())
            self.engine = build_engine(model, self._ranks)
        except Exception as error:
            if self._ranks is None:
                raise
            cause = self._ranks.explain(error)
            self._ranks.stop()
            raise cause from error
        files, vocabulary = model.directory, model.network_config.vocabulary
        self._schemas = JsonSchemas(files.tokenizer_file, vocabulary, files.stop_tokens)
        assert model.tokenizer is not None
        self._open(self.engine, model.tokenizer, self._schemas.compile)

    def start(self) -> None:
        settle()
        sys.setswitchinterval(SWITCH_SECONDS)
        super().start()
        model = self._model
        self._log(
            f"{model.directory.architecture} from {model.directory.name}: {model.parameters:,} parameters, "
            f"{model.cache.keys.dtype} on {model.cache.keys.device}, {model.cache.slots} sequences of at most "
            f"{model.cache.context} tokens, {model.cache.tokens:,} in all, predicted {model.predicted_bytes:,} bytes, "
            f"loaded in {model.load_seconds:.1f} s"
        )
        if model.rounding:
            self._log(model.rounding)
        if not model.cache.keys.is_cuda and not cpu_kernels.built():
            self._log(f"steps on this processor take up to half as long again: {cpu_kernels.absence()}")

    def stop(self) -> None:
        super().stop()
        if self._ranks:
            self._ranks.stop()

    def status(self) -> EngineStatus:
        model, cache, engine = self._model, self._model.cache, self.engine
        running, waiting, cached = engine.load()
        drafted, accepted = engine.drafts()
        found, preempted = engine.cache_events()
        cuda = cache.keys.is_cuda
        return EngineStatus(
            model_version=self._config.model_version,
            architecture=model.directory.architecture,
            parameters=model.parameters,
            dtype=str(cache.keys.dtype).removeprefix("torch."),
            device=str(cache.keys.device),
            context_window=cache.context,
            max_batch_size=cache.slots,
            running=running,
            waiting=waiting,
            kv_tokens_capacity=cache.tokens,
            kv_tokens_used=cached,
            weights_bytes=model.weights_bytes,
            kv_bytes=cache.size_bytes,
            memory_bytes=torch.cuda.max_memory_reserved(cache.keys.device) if cuda else resident_bytes(),
            load_seconds=model.load_seconds,
            tokens_total=engine.tokens_total,
            steps_total=engine.steps_total,
            drafted_tokens_total=drafted,
            accepted_tokens_total=accepted,
            prefix_tokens_total=found,
            preemptions_total=preempted,
            step_age_seconds=engine.step_age_seconds(),
        )

    def _work(self) -> None:
        if self._config.cpu_threads and self._config.device == "cpu":
            torch.set_num_threads(threads_of_rank(self._config))
        while self.engine.wait_for_work(QUIET_SECONDS, self._use_quiet):
            outputs = self.engine.step()
            self._publisher.put_step(outputs, pause=self.engine.should_pause)

    def _use_quiet(self) -> None:
        self._schemas.prepare()
        release_memory(self._model.cache.keys.device)

    def _explain(self, error: BaseException) -> BaseException:
        return self._ranks.explain(error) if self._ranks else error

    def _rank_failed(self, failure: RankFailed) -> None:
        self._publisher.fail(failure)

    def _rank_failed_in_load(self, failure: RankFailed) -> None:
        self._fatal(f"{failure} while it loaded")


def build_engine(model: LoadedModel, ranks: Ranks | None = None) -> Engine:
    """The two verbs over a loaded model, without threads or channel."""
    cache = model.cache
    on_card, bits = cache.keys.is_cuda, model.network_config.weight_bits
    launch = make_launch(model)
    return Engine(
        ranks.follow(launch) if ranks else launch,
        Scheduler(
            cache.slots,
            model.chunk,
            BlockPool(cache.blocks, cache.block_size, contiguous=not on_card),
            burst=model.burst,
            beside=partial(room_beside, slots=cache.slots) if on_card else None,
            speculation=for_card(bits, cache.slots) if on_card else Speculation(),
        ),
        slots=cache.slots,
        context=cache.context,
        vocabulary=model.network_config.vocabulary,
        stop_tokens=model.directory.stop_tokens,
    )
