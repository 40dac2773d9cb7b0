"""What the trainer tells about itself: its step, its end tokens, its model; and the callback that asks it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openreward_gym.errors import ConfigurationError

if TYPE_CHECKING:
    from openreward_gym.integrations.episode import Episodes


class TrainingState:
    """The trainer's state, as far as episodes and their records need it.

    The callback writes it in the trainer's process. `AsyncGRPOTrainer` plays in another process, which has a copy: that copy
    reads the step from a file.

    Attributes:
        end_token_ids: Ids that end a turn of the model: end of sequence, and padding. None before the trainer was made.
        generation_prompt_ids: Ids with which the chat template opens a turn of the model; empty where they are not known.
        run: Mark of this training in the names of groups. A training that is resumed plays some steps again.
        num_generations, num_generations_eval: Number of rollouts of a task that are compared, in training and in evaluation.
        process, processes: Number of this process among those that train, and how many they are.
        shows_images: Whether the model is given the images of tools.
        model, sampling: Run info for the records.

    Example:
        >>> state = TrainingState()
        >>> state.set_step(3)
        >>> state.place("weather", 0), state.place("weather", 0)
        ((3, 'weather/0/3', 0), (3, 'weather/0/3', 1))
    """

    def __init__(self) -> None:
        self.end_token_ids: frozenset[int] | None = None
        self.generation_prompt_ids: tuple[int, ...] = ()
        self.run = ""
        self.num_generations: int | None = None
        self.num_generations_eval: int | None = None
        self.process, self.processes = 0, 1
        self.shows_images = False
        self.model: dict[str, Any] | None = None
        self.sampling: dict[str, Any] | None = None
        self.is_copy = False
        self._step = 0
        self._step_file: Path | None = None
        self._remove_folder: weakref.finalize[Any, TrainingState] | None = None
        self._model: weakref.ref[Any] | None = None
        # Of each task, the step in which its last group began, that group's number in the step, and the rollouts it has.
        self._groups: dict[tuple[str, int], tuple[int, int, int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_groups": {}, "_model": None, "_remove_folder": None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        # AsyncGRPOTrainer's worker takes only text.
        vars(self).update(state, is_copy=True, shows_images=False)

    @property
    def is_evaluating(self) -> bool:
        """Whether the trainer evaluates: `GRPOTrainer` tells it by the mode of its model."""
        model = None if self._model is None else self._model()
        return model is not None and not model.training

    @property
    def step(self) -> int:
        """The trainer's step: the number of updates of the weights so far."""
        if self.is_copy and self._step_file is not None:
            with contextlib.suppress(OSError, ValueError):
                self._step = int(self._step_file.read_text(encoding="ascii"))
        return self._step

    def set_step(self, step: int) -> None:
        """Note the trainer's step, also for copies of this object in other processes."""
        self._step = step
        if self._step_file is not None:
            following = self._step_file.with_suffix(".new")
            following.write_text(str(step), encoding="ascii")
            following.replace(self._step_file)

    def share_step(self) -> None:
        """Write the step to a file from now on, which copies of this object read."""
        if self._step_file is None:
            folder = tempfile.mkdtemp(prefix="openreward-gym-")
            # A training that is interrupted calls no callback.
            self._remove_folder = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._step_file = Path(folder) / "step"
            self.set_step(self._step)

    def unshare_step(self) -> None:
        """Remove the file of the step."""
        if self._remove_folder is not None:
            self._remove_folder()
            self._remove_folder = self._step_file = None

    def place(self, environment: str, task: int) -> tuple[int, str, int]:
        """Return the step, the group and the number in the group of the next rollout of a task.

        `GRPOTrainer` plays a whole group in one step. `AsyncGRPOTrainer` may begin a group in one step and end it in a later one:
        there a group is full when it has `num_generations` rollouts. Where several processes train, each numbers its own part.
        """
        step = self.step
        size = self.num_generations
        if self.is_evaluating:
            environment, size = f"eval/{environment}", self.num_generations_eval
        begun, number, count = self._groups.get((environment, task), (step, 1, 0))
        is_full = size is not None and count >= size
        if is_full or (begun != step and not self.is_copy):
            begun, number, count = step, number + 1 if begun == step else 1, 0
        self._groups[environment, task] = begun, number, count + 1
        # AsyncGRPOTrainer has one worker.
        sample = count if self.is_copy else count * self.processes + self.process
        group = f"{environment}/{task}/{begun}" + (f"-{number}" if number > 1 else "") + (f"@{self.run}" if self.run else "")
        return step, group, sample

    def begin_run(self) -> None:
        """Take a new mark for the names of groups, the same in all processes that train."""
        from accelerate.utils import broadcast_object_list

        self.run = broadcast_object_list([uuid.uuid4().hex[:8]])[0]

    def check(self) -> None:
        """Raise ConfigurationError if no trainer has told its end tokens."""
        if self.end_token_ids is None:
            raise ConfigurationError(
                "the trainer lacks the callback of grpo(), which tells how completions end: pass all its keywords, "
                "GRPOTrainer(..., **grpo(...)), or add grpo(...)['callbacks'] to your own callbacks"
            )

    def read_trainer(self, args: Any, model: Any, processing_class: Any) -> None:
        """Take what is needed from a trainer that was just made."""
        tokenizer = getattr(processing_class, "tokenizer", processing_class)
        generation = getattr(model, "generation_config", None)
        ends = [*_ids(getattr(generation, "eos_token_id", None)), *_ids(tokenizer.eos_token_id), *_ids(tokenizer.pad_token_id)]
        self.end_token_ids = frozenset(ends)
        template = getattr(tokenizer, "chat_template", None) or getattr(processing_class, "chat_template", None)
        options = getattr(args, "chat_template_kwargs", None) or {}
        self.generation_prompt_ids = generation_prompt_ids(tokenizer, {**options, "chat_template": template})
        self.num_generations = getattr(args, "num_generations", None)
        self.num_generations_eval = getattr(args, "num_generations_eval", None) or self.num_generations
        self._model = weakref.ref(model) if hasattr(model, "training") else None
        self.process, self.processes = getattr(args, "process_index", 0), getattr(args, "world_size", 1)
        self.shows_images = getattr(processing_class, "image_processor", None) is not None
        name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
        self.model = {"name": name, "algorithm": "grpo"}
        names = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "max_completion_length": "max_tokens"}
        known = {ours: getattr(args, theirs, None) for theirs, ours in names.items()}
        self.sampling = {name: value for name, value in known.items() if isinstance(value, (int, float))} or None


def _ids(value: int | Iterable[int] | None) -> tuple[int, ...]:
    return () if value is None else (value,) if isinstance(value, int) else tuple(value)


def generation_prompt_ids(tokenizer: Any, template_options: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the ids with which a chat template opens the model's turn; empty where the template does not say them alone."""
    question = [{"role": "user", "content": "?"}]
    try:
        without, with_prompt = (
            tokenizer.apply_chat_template(
                question, add_generation_prompt=add, tokenize=True, return_dict=False, **template_options
            )
            for add in (False, True)
        )
    except Exception:  # a template may refuse any conversation, with any error
        return ()
    return tuple(with_prompt[len(without) :]) if with_prompt[: len(without)] == without else ()


def callback_for(state: TrainingState, sources: Iterable[Episodes]) -> Any:
    """Return a `TrainerCallback` that keeps the state up to date, and closes the files of the record when training ends."""
    from transformers import TrainerCallback

    class StateCallback(TrainerCallback):
        """Tells the episodes what the trainer does."""

        def on_init_end(self, args: Any, trainer_state: Any, control: Any, **parts: Any) -> None:
            state.read_trainer(args, parts.get("model"), parts.get("processing_class"))
            state.begin_run()

        def on_train_begin(self, args: Any, trainer_state: Any, control: Any, **parts: Any) -> None:
            # Of a training that was interrupted, rollouts are left that nobody will score.
            for source in sources:
                source.close()
            state.begin_run()
            state.share_step()
            state.set_step(trainer_state.global_step)

        def on_step_begin(self, args: Any, trainer_state: Any, control: Any, **parts: Any) -> None:
            state.set_step(trainer_state.global_step)

        def on_step_end(self, args: Any, trainer_state: Any, control: Any, **parts: Any) -> None:
            state.set_step(trainer_state.global_step)

        def on_train_end(self, args: Any, trainer_state: Any, control: Any, **parts: Any) -> None:
            for source in sources:
                source.close()
            state.unshare_step()

    return StateCallback()
