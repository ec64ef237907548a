"""The schema: every setting's name, type, range, default and help, written once.

The YAML check, ``--set``, ``charrnn config schema`` and the documentation are all made from these classes.
This module knows nothing of files: see ``loader`` for YAML and for where a value came from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

DURATION_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_duration(value: Any) -> Any:
    """Return seconds for ``60``, ``"60"``, ``"60s"``, ``"1.5m"``, ``"2h"``; anything else passes unchanged."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h)?\s*", value)
        if match is None:
            raise ValueError("write a duration as 60s, 5m or 1h")
        return float(match[1]) * DURATION_UNITS[match[2] or "s"]
    return value


HIGHEST_LR = 1000
MOST_THREADS = 1024
MOST_SECONDS = MOST_EPOCHS = 1e9  # more than any machine has; what is worked out from them stays finite
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0, le=MOST_SECONDS),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MOST_SECONDS},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(s|m|min|h)?\s*$"},
            ]
        }
    ),
]


def refuse_odd_characters(value: Any) -> Any:
    """The value as it is; raises ValueError for a name with NUL in it, or not in UTF-8, which no config can hold."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and ("\0" in text or any("\ud800" <= one <= "\udfff" for one in text)):
            raise ValueError("the name holds NUL, or is not UTF-8; rename the file")
    return value


def at_home(path: str) -> str:
    """``~/`` means the home folder. A shell knows that where a word begins, not in --out=~/runs; a file never."""
    return str(Path(path).expanduser()) if path.startswith("~/") else path


Probability = Annotated[float, Field(ge=0, lt=1)]
DRAFT = "http://json-schema.org/draft-07/schema#"  # what every editor knows


class Section(BaseModel):
    """Unknown keys are refused, values are never guessed at (``true`` is no number), NaN and inf are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class CorpusConfig(Section):
    """Which text, and how it becomes numbers."""

    source: Annotated[str | list[str], BeforeValidator(refuse_odd_characters)] = Field(
        description="shakespeare, play, python, counting; or a file, a folder, a list of these, or '-' for stdin"
    )
    glob: Annotated[str, BeforeValidator(refuse_odd_characters)] = Field(
        "**/*.txt", description="which files of a folder are taken, in sorted order"
    )
    encoding: str = Field("utf-8", description="text encoding, read strictly")
    fallback: Annotated[str | None, BeforeValidator(refuse_odd_characters)] = Field(
        None, min_length=1, description="corpus to use where a named corpus cannot be downloaded; null to fail instead"
    )
    vocabulary: Literal["characters", "bytes"] = Field(
        "characters", description="one symbol per code point, or one per byte (always 256)"
    )
    min_count: int = Field(
        1, ge=1, description="characters rarer than this in the whole text become one unknown symbol"
    )
    split: list[float] = Field(
        [0.9, 0.1],
        description="shares of train, validation and, if given, test; contiguous, in this order",
        json_schema_extra={"minItems": 2, "maxItems": 3},
    )

    @field_validator("source")
    @classmethod
    def _source_is_given(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and "" in value):
            raise ValueError("give the name of a corpus, a file or a folder")
        return [at_home(one) for one in value] if isinstance(value, list) else at_home(value)

    @field_validator("split")
    @classmethod
    def _split_is_a_partition(cls, value: list[float]) -> list[float]:
        if len(value) not in (2, 3) or min(value) <= 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("give two or three positive shares that add up to 1, such as [0.9, 0.1]")
        return value

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError as error:
            raise ValueError("no such text encoding; try utf-8, latin-1, utf-16 or cp1252") from error
        return value


class DropoutConfig(Section):
    """Dropout probabilities by place. A single number sets all three."""

    input: Probability = Field(0.0, description="on the input of the first layer")
    between: Probability = Field(0.0, description="between layers")
    output: Probability = Field(0.0, description="on the last layer's output, before the decoder")


def dropout_everywhere(value: Any) -> Any:
    """A number as the dropout of every place; anything else passes unchanged."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {"input": value, "between": value, "output": value} if is_number else value


def _or_a_number(schema: dict[str, Any]) -> None:
    """The JSON Schema of a section that a single number may stand for."""
    section = {"$ref": schema.pop("$ref")}
    schema["anyOf"] = [{"type": "number", "minimum": 0, "exclusiveMaximum": 1}, section]


class ModelConfig(Section):
    """The shape of the network."""

    cell: Literal["lstm", "gru", "rnn_tanh", "rnn_relu"] = Field("lstm", description="kind of recurrent cell")
    num_layers: int = Field(1, ge=1, le=64, description="recurrent layers, one above the other")
    hidden_size: int = Field(256, ge=1, le=65536, description="units per layer; multiples of 64 run fastest")
    embedding_size: int = Field(64, ge=0, le=65536, description="size of a character's vector; 0 means one-hot")
    dropout: Annotated[DropoutConfig, BeforeValidator(dropout_everywhere)] = Field(
        DropoutConfig(),
        description="a number for all places, or {input, between, output}",
        json_schema_extra=_or_a_number,
    )
    tie_weights: bool = Field(
        False, description="the decoder shares the embedding's weights (embedding_size = hidden_size)"
    )
    skip_connections: bool = Field(False, description="each layer above the first adds its input to its output")
    recurrent_init: Literal["orthogonal", "uniform"] = Field(
        "orthogonal", description="start of the recurrent matrices: orthogonal per gate, or torch's uniform"
    )
    decoder_bias: Literal["unigram", "uniform"] = Field(
        "unigram", description="start of the decoder's bias: how often each character occurs, or torch's uniform"
    )
    forget_bias: float = Field(1.0, ge=-10, le=10, description="start of the LSTM's forget-gate bias")

    @property
    def shape(self) -> str:
        """What is said of a network first: ``lstm 1 x 256``."""
        return f"{self.cell} {self.num_layers} x {self.hidden_size}"

    @model_validator(mode="after")
    def _tied_sizes_agree(self) -> ModelConfig:
        if self.tie_weights and self.embedding_size != self.hidden_size:
            raise ValueError(
                f"tie_weights needs embedding_size = hidden_size, here {self.embedding_size} and {self.hidden_size}"
            )
        return self


class TrainingConfig(Section):
    """How the network learns."""

    batch_size: int = Field(32, ge=1, le=1_000_000, description="parallel streams of text")
    seq_len: int = Field(64, ge=1, le=1_000_000, description="characters per window: the truncation of BPTT")
    random_seq_len: bool = Field(
        False,
        description="draw each window's length around seq_len, as AWD-LSTM does; the rate scales with it",
    )
    state_reset: float = Field(
        0.02, ge=0, le=1, description="chance per window that a stream starts from the zero state again"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="made once, saved with the model")
    lr: float = Field(2e-3, gt=0, le=HIGHEST_LR, description="peak learning rate")
    betas: list[Probability] = Field([0.9, 0.99], min_length=2, max_length=2, description="Adam's two decay rates")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty (adam, sgd) or decoupled decay (adamw)")
    grad_clip: float | None = Field(1.0, gt=0, description="largest global gradient norm; null switches clipping off")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="auto takes bf16 where it is faster: LSTMs on a CPU with AMX or AVX-512 BF16; else fp32. "
        "fp16 is for GPUs, bf16 for CPUs",
    )
    schedule: Literal["constant", "linear", "cosine", "step", "one_cycle", "triangular2"] = Field(
        "linear", description="shape of the learning rate over training, see also warmup_steps and min_lr"
    )
    warmup_steps: int = Field(0, ge=0, description="steps over which the rate rises linearly to its schedule")
    min_lr: float = Field(0.0, ge=0, description="where linear and cosine end and triangular2 begins")
    step_drops: int = Field(2, ge=1, description="schedule step: number of drops, evenly spread over training")
    step_gamma: float = Field(0.1, gt=0, le=1, description="schedule step: factor of one drop")
    cycles: int = Field(3, ge=1, description="schedule triangular2: number of triangles")
    max_steps: int | None = Field(None, ge=1, description="stop after this many optimizer steps")
    epochs: float | None = Field(
        None, gt=0, le=MOST_EPOCHS, description="stop after this many passes over the training text"
    )
    max_time: Duration | None = Field(
        None, description="stop after this time (60s, 5m, 1h), evaluations included; the schedule follows it"
    )
    patience: int | None = Field(
        None, ge=1, description="stop after this many evaluations without a better validation loss"
    )
    on_divergence: Literal["stop", "rollback"] = Field(
        "stop", description="what to do when loss or gradient are not finite: stop, or go back and lower the rate"
    )
    rollback_factor: float = Field(0.5, gt=0, lt=1, description="factor on the learning rate at each rollback")
    max_rollbacks: int = Field(3, ge=1, description="rollbacks before training stops after all")
    seed: int = Field(1, ge=0, lt=2**63, description="seed of weights, dropout, window lengths and state resets")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    threads: int | None = Field(
        None, ge=1, le=MOST_THREADS, description="CPU threads; null: train and swarm measure, else torch decides"
    )

    @model_validator(mode="after")
    def _there_is_an_end(self) -> TrainingConfig:
        if self.max_steps is None and self.epochs is None and self.max_time is None and self.patience is None:
            raise ValueError("training has no end: set max_steps, epochs, max_time or patience")
        return self

    @model_validator(mode="after")
    def _rates_are_ordered(self) -> TrainingConfig:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr ({self.min_lr:g}) is above lr ({self.lr:g})")
        return self


class SamplingConfig(Section):
    """Defaults of ``charrnn sample``, and of the samples shown while training."""

    temperature: float = Field(0.8, ge=0, le=100, description="0 is greedy, 1 is the model's own distribution")
    top_k: int | None = Field(None, ge=1, description="choose among the k likeliest characters only")
    top_p: float | None = Field(None, gt=0, le=1, description="choose among the likeliest that add up to p")
    length: int = Field(500, ge=0, description="characters to write")


class RunConfig(Section):
    """Where a run is kept, and how often it reports."""

    out: Annotated[str, BeforeValidator(refuse_odd_characters), AfterValidator(at_home)] = Field(
        "runs", min_length=1, description="folder that holds the run folders"
    )
    name: str | None = Field(
        None,
        pattern=r"^[\w][\w.+-]*$",
        description="name of the run folder, of letters, digits and . _ + -; null: that of the config, or of the text",
    )
    note: str | None = Field(None, max_length=1000, description="why this run: a line that is kept with it")
    tracker: Literal["none", "tensorboard"] = Field(
        "none",
        description="tensorboard: metrics and samples also as event files in the run folder; not of a swarm's bees",
    )
    log_every: int = Field(50, ge=1, description="steps between two lines of metrics.jsonl")
    eval_every: int = Field(1000, ge=1, description="steps between two evaluations on the validation text")
    save_every: int = Field(1000, ge=1, description="steps between two checkpoints")
    keep: int = Field(1, ge=0, description="older checkpoints kept beside the last and the best one")
    eval_characters: int = Field(
        200_000,
        ge=1,
        description="validation characters read at each evaluation while training; charrnn eval reads all",
    )
    sample_length: int = Field(200, ge=0, description="characters of the sample shown at each evaluation")


class Config(Section):
    """Everything that decides a run."""

    model_config = ConfigDict(title="A config of charrnn", json_schema_extra={"$schema": DRAFT})

    corpus: CorpusConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    run: RunConfig = Field(default_factory=RunConfig)

    def with_training(self, **settings: Any) -> Config:
        """The same with other training settings, which are known to be right: they are not checked."""
        return self.model_copy(update={"training": self.training.model_copy(update=settings)})
