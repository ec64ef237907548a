"""Exported models compute what torch computes, and say on what they were trained; nothing is written over."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from charrnn.config.schema import Config
from charrnn.errors import CharRNNError, CheckpointError, UsageError
from charrnn.model import onnx_graph
from charrnn.model.charrnn import CharRNN
from charrnn.model.reference import reference_forward
from charrnn.runs import export
from charrnn.runs.export import default_name, largest_difference, write_hub, write_onnx
from charrnn.runs.hub import hub_json, read_hub_folder, vocabulary_from, vocabulary_ids
from charrnn.runs.saved import SavedModel, load_model
from charrnn.sampling.sampler import sample_text
from charrnn.text.places import Places
from charrnn.text.vocabulary import Vocabulary
from tests.command_line import run, snapshot
from tests.conftest import make_config
from tests.helpers import begin, train

CPU = torch.device("cpu")
CELLS = ["lstm", "gru", "rnn_tanh", "rnn_relu"]
FEW = Vocabulary("characters", "\n abcde", has_unknown=True)
ODD = Vocabulary("characters", '\0\t\n "\\eé\u2028\ud800\udfff\ufffd\U0001f600\U0010ffff')
JUST_AS_MANY = Vocabulary("characters", "".join(map(chr, range(256))))  # as there are bytes
TEXT: dict[str, Any] = {
    "name": "cat.txt",
    "source": "/home/me/secret/cat.txt",
    "bytes": 9,
    "sha256": "0" * 64,
    "characters": 9,
}


def make_saved(
    *settings: str, vocabulary: Vocabulary = FEW, seed: int = 1, source: str = "/home/me/secret/cat.txt"
) -> SavedModel:
    """An untrained model, larger weights than usual: every number should matter."""
    config = make_config(source, *settings)
    torch.manual_seed(seed)
    model = CharRNN(len(vocabulary), config.model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5)
    entropies = {"uniform": math.log(len(vocabulary)), "unigram": 1.25}
    return SavedModel(
        path=Path("x.safetensors"),
        model=model,
        vocabulary=vocabulary,
        config=config,
        corpus=TEXT,
        baselines=entropies,
        steps=40,
        val_loss=1.5,
    )


@pytest.fixture
def run_folder(small_config: Config, places: Places) -> Path:
    session = begin(small_config, places, "cats")
    train(session)
    assert session.folder is not None
    return session.folder.path


VARIANTS = [
    ("model.num_layers=1",),
    ("model.num_layers=2",),
    ("model.num_layers=3", "model.skip_connections=true"),
    ("model.num_layers=2", "model.embedding_size=0"),
    ("model.num_layers=1", "model.embedding_size=8", "model.tie_weights=true"),
    ("model.num_layers=2", "model.embedding_size=8", "model.tie_weights=true", "model.skip_connections=true"),
]


@pytest.mark.parametrize("settings", VARIANTS, ids="-".join)
@pytest.mark.parametrize("cell", CELLS)
def test_onnx_computes_what_torch_computes(cell: str, settings: tuple[str, ...]) -> None:
    import onnxruntime

    saved = make_saved(f"model.cell={cell}", *settings)
    written = write_onnx(saved, Path("m.onnx"))
    assert written.difference < 1e-5 and written.opset == 17 and written.bytes == Path("m.onnx").stat().st_size
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    chance = np.random.default_rng(3)
    for streams, characters in ((1, 1), (2, 11), (5, 3)):
        ids = chance.integers(len(saved.vocabulary), size=(streams, characters))
        hidden = [chance.uniform(-1, 1, part.shape).astype(np.float32) for part in saved.model.zero_hidden(streams)]
        names = ["h0", "c0"][: len(hidden)]
        logits, *after = session.run(None, {"ids": ids, **dict(zip(names, hidden, strict=True))})
        # The oracle: equations written out, no torch layers, no onnx.
        expected, state = reference_forward(saved.model, torch.from_numpy(ids), tuple(map(torch.from_numpy, hidden)))
        assert logits.shape == (streams, characters, len(saved.vocabulary))
        np.testing.assert_allclose(logits, expected.detach(), atol=1e-5)
        for ours, theirs in zip(after, state, strict=True):
            np.testing.assert_allclose(ours, theirs.detach(), atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_onnx_says_what_goes_in_and_out(cell: str) -> None:
    import onnx

    saved = make_saved(f"model.cell={cell}")
    write_onnx(saved, Path("m.onnx"))
    model = onnx.load("m.onnx")

    def shapes(values: Any) -> dict[str, list[Any]]:
        return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}

    state = [2, "batch", 8]
    cells = [("c0", "c1")] if cell == "lstm" else []
    expected_in = {"ids": ["batch", "time"], "h0": state} | {before: state for before, _ in cells}
    expected_out = {"logits": ["batch", "time", 8], "h1": state} | {after: state for _, after in cells}
    assert shapes(model.graph.input) == expected_in
    assert shapes(model.graph.output) == expected_out
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata == hub_json(saved)
    assert vocabulary_from(metadata["vocab.json"]) == saved.vocabulary


@pytest.mark.parametrize(
    ("cell", "order"),
    [("lstm", [0, 1, 2, 3]), ("lstm", [0, 3, 2, 1]), ("gru", [0, 1, 2]), ("gru", [1, 2, 0])],
)
def test_the_check_notices_gates_in_the_wrong_order(
    cell: str, order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(onnx_graph.GATE_ORDER, cell, order)
    with pytest.raises(CharRNNError, match="onnxruntime differs from torch by") as failure:
        write_onnx(make_saved(f"model.cell={cell}"), Path("m.onnx"))
    assert failure.value.exit_code == 1
    assert not snapshot()


def test_the_check_notices_other_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(onnx_graph.ATTRIBUTES, "gru", {"linear_before_reset": 0})
    monkeypatch.setitem(onnx_graph.ATTRIBUTES, "rnn_relu", {"activations": ["Tanh"]})
    for cell in ("gru", "rnn_relu"):
        with pytest.raises(CharRNNError, match="onnxruntime differs from torch by"):
            write_onnx(make_saved(f"model.cell={cell}"), Path("m.onnx"))


@pytest.mark.parametrize("part", ["decoder.bias", "layers.0.bias_hh_l0", "layers.1.weight_hh_l0", "embedding.weight"])
def test_every_weight_counts_in_the_check(part: str) -> None:
    saved = make_saved()
    raw = onnx_graph.onnx_model(saved.model, {}).SerializeToString()
    assert largest_difference(saved.model, raw) < 1e-5
    with torch.no_grad():
        saved.model.get_parameter(part)[-1] += 0.1
    assert largest_difference(saved.model, raw) > 1e-3


def test_what_is_no_number_is_not_equal() -> None:
    saved = make_saved()
    with torch.no_grad():
        saved.model.decoder.bias[0] = math.nan
    with pytest.raises(CharRNNError, match="by nan"):
        write_onnx(saved, Path("m.onnx"))
    assert not snapshot()


def test_a_model_too_large_for_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = make_saved()
    monkeypatch.setattr(export, "MOST_PARAMETERS", saved.model.num_parameters - 1)
    with pytest.raises(CharRNNError, match="2 GB at most; use --format safetensors"):
        write_onnx(saved, Path("m.onnx"))


@pytest.mark.parametrize("settings", VARIANTS, ids="-".join)
@pytest.mark.parametrize("vocabulary", [FEW, ODD, Vocabulary("bytes")], ids=["unknown", "odd", "bytes"])
def test_a_folder_loads_back(settings: tuple[str, ...], vocabulary: Vocabulary) -> None:
    saved = make_saved(*settings, "sampling.top_k=3", "training.lr=0.02", vocabulary=vocabulary)
    write_hub(saved, Path("there"))
    back = load_model(Path("there"), CPU)
    assert back.vocabulary == vocabulary
    assert (back.steps, back.val_loss, back.baselines) == (40, 1.5, saved.baselines)
    for section in ("model", "training", "sampling"):
        assert getattr(back.config, section) == getattr(saved.config, section)
    assert not back.model.training
    x = torch.randint(len(vocabulary), (2, 9), generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(
        back.model(x, back.model.zero_hidden(2)), saved.model(x, saved.model.zero_hidden(2)), strict=True
    ):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
    drawn = [sample_text(m.model, m.vocabulary, m.config.sampling) for m in (back, saved)]
    assert drawn[0] == drawn[1]


def test_the_layout_that_the_hub_expects() -> None:
    saved = make_saved("run.note=mine", "run.out=/home/me/secret", "corpus.fallback=/home/me/secret/other.txt")
    write_hub(saved, Path("there"))
    assert set(snapshot(Path("there"))) == {
        "README.md", "config.json", "generation_config.json", "model.safetensors", "vocab.json",
    }  # fmt: skip
    with safe_open("there/model.safetensors", "pt") as weights:
        assert weights.metadata() == {"format": "pt"}
        assert set(weights.keys()) == set(saved.model.state_dict())
    config = json.loads(Path("there/config.json").read_text())
    assert config["model_type"] == "charrnn" and config["architectures"] == ["CharRNN"] and config["vocab_size"] == 8
    assert config["model"]["cell"] == "lstm" and config["charrnn"]["training"]["lr"] == 0.01
    vocab = json.loads(Path("there/vocab.json").read_text())
    assert vocab == {"\n": 0, " ": 1, "a": 2, "b": 3, "c": 4, "d": 5, "e": 6, "<unk>": 7}
    assert json.loads(Path("there/generation_config.json").read_text()) == {
        "temperature": 0.8, "top_k": None, "top_p": None, "length": 500,
    }  # fmt: skip
    everything = b"".join(content or b"" for content in snapshot(Path("there")).values())
    assert b"secret" not in everything and b"mine" not in everything  # what belongs to the machine stays there


def test_the_model_card_is_read_by_the_hub() -> None:
    saved = make_saved()
    write_hub(saved, Path("there"))
    _, front, text = Path("there/README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["library_name"] == "charrnn" and "license" not in head and "# license: yours to choose" in front
    assert {"charrnn", "character-level", "lstm"} <= set(head["tags"])
    (entry,) = head["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "there"
    assert result["dataset"]["name"] == "cat.txt" and result["dataset"]["revision"] == TEXT["sha256"]
    metrics = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert metrics == {"nats_per_character": 1.5, "bits_per_character": 2.164}
    assert "1.5 nats per character (2.164 bits)" in text and TEXT["sha256"] in text
    assert "charrnn sample --checkpoint there" in text and "lstm 2 x 8" in text


def test_what_a_card_says_can_be_pasted() -> None:
    name = 'my "best" model'
    write_hub(make_saved(), Path(name))
    text = Path(name, "README.md").read_text()
    assert "charrnn sample --checkpoint 'my \"best\" model' " in text
    assert 'charrnn.load("my \\"best\\" model")' in text


def test_the_card_of_a_network_of_bytes() -> None:
    write_hub(make_saved(vocabulary=Vocabulary("bytes")), Path("there"))
    text = Path("there/README.md").read_text()
    assert "(9 bytes, " in text and "1.5 nats per byte (" in text and "nats_per_byte" in text
    assert "A byte-level recurrent network" in text and "\n- byte-level\n" in text and "character" not in text
    assert "nats per character" not in text and "nats_per_character" not in text
    said = run("export", "--checkpoint", "there", "--format", "safetensors", "-o", "again").err
    assert "validation loss 1.5000 nats/byte (2.1640 bits)" in said


def test_a_card_without_a_loss() -> None:
    saved = SavedModel(**{**vars(make_saved()), "val_loss": None})
    write_hub(saved, Path("there"))
    card = Path("there/README.md").read_text()
    assert "not evaluated at this step" in card and "model-index" not in card
    assert load_model(Path("there"), CPU).val_loss is None


@pytest.mark.parametrize(
    "vocabulary", [FEW, ODD, Vocabulary("bytes"), Vocabulary("characters", "", True), JUST_AS_MANY]
)
def test_a_vocabulary_comes_back_through_json(vocabulary: Vocabulary) -> None:
    assert vocabulary_from(json.loads(json.dumps(vocabulary_ids(vocabulary)))) == vocabulary


@pytest.mark.parametrize(
    "ids", [{"a": 1}, {"a": 0, "b": 2}, {"b": 0, "a": 1}, {"<unk>": 0, "a": 1}, {"ab": 0}, {"<0x00>": 0}]
)
def test_what_is_no_vocabulary(ids: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"vocab\.json does not give characters"):
        vocabulary_from(ids)


BROKEN: list[tuple[str, bytes | None]] = [
    ("config.json", b"{}"),
    ("config.json", b"[]"),
    ("config.json", b"\xff"),
    ("config.json", b"[" * 100_000),
    ("vocab.json", None),
    ("vocab.json", b"[]"),
    ("vocab.json", b'{"a": 0}'),
    ("vocab.json", b'{"a": 0, "b": "x"}'),
    ("generation_config.json", b'{"temperature": -1}'),
    ("generation_config.json", None),
    ("model.safetensors", b""),
    ("model.safetensors", b"PK\x03\x04"),
]


@pytest.mark.parametrize(("name", "content"), BROKEN)
def test_a_damaged_folder_is_refused(name: str, content: bytes | None) -> None:
    write_hub(make_saved(), Path("there"))
    if content is None:
        Path("there", name).unlink()
    else:
        Path("there", name).write_bytes(content)
    with pytest.raises(CheckpointError, match="there"):
        load_model(Path("there"), CPU)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"temperature": -1}', "temperature: Input should be greater than or equal to 0"),
        ('{"warmth": 1}', "warmth: Extra inputs are not permitted"),
        ("[]", "Input should be"),
    ],
)
def test_what_is_edited_wrongly_is_named(content: str, says: str) -> None:
    write_hub(make_saved(), Path("there"))
    Path("there/generation_config.json").write_text(content)
    result = run("sample", "--checkpoint", "there")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: there/generation_config.json: {says}")
    assert result.err.endswith("; correct it, or export the model again\n")


def test_weights_of_another_shape_are_refused() -> None:
    write_hub(make_saved(), Path("there"))
    write_hub(make_saved("model.hidden_size=9"), Path("other"))
    Path("other/model.safetensors").replace("there/model.safetensors")
    with pytest.raises(CheckpointError, match="size mismatch"):
        load_model(Path("there"), CPU)
    assert read_hub_folder(Path("there"))["trainer"]["steps"] == 40


def test_weights_of_half_the_width_are_read_as_well(run_folder: Path) -> None:
    """Which somebody else may have made of ours; numpy does not know them."""
    assert run("export", "--checkpoint", run_folder, "--format", "safetensors").code == 0
    words = ("sample", "--checkpoint", "cats-export", "--temperature", "0", "--length", "30")
    file = Path("cats-export/model.safetensors")
    weights = load_file(file)
    for width in (torch.float16, torch.bfloat16):
        save_file({name: tensor.to(width) for name, tensor in weights.items()}, file)
        result = run(*words)
        assert (result.code, len(result.out.rstrip("\n"))) == (0, 30), result.err


def test_the_command_writes_a_folder(run_folder: Path, text_file: Path) -> None:
    result = run("export", "--checkpoint", run_folder, "--format", "safetensors")
    assert (result.code, result.out) == (0, "cats-export\n")
    assert "license" in result.err and "validation loss" in result.err
    first = run("sample", "--checkpoint", "cats-export", "--prompt", "the ", "--length", "30")
    second = run("sample", "--checkpoint", run_folder, "--prompt", "the ", "--length", "30")
    assert first.code == 0 and first.out == second.out
    # It knows its text by name and digest: here it is found, by its name.
    scores = [run("eval", "--checkpoint", where, "--json") for where in ("cats-export", run_folder)]
    assert scores[0].code == 0 and scores[0].out == scores[1].out
    val_loss = json.loads(Path("cats-export/config.json").read_text())["charrnn"]["val_loss"]
    assert json.loads(scores[1].out)["carried"]["nats_per_char"] == pytest.approx(val_loss, abs=1e-4)


def test_the_command_writes_onnx(run_folder: Path) -> None:
    result = run("export", "--checkpoint", run_folder / "checkpoints" / "last.safetensors", "--format", "onnx")
    assert (result.code, result.out) == (0, "cats.onnx\n")
    assert "Checked: onnxruntime equals torch up to " in result.err and "at batch 1 x 7 and 3 x 20" in result.err
    assert run("export", "--checkpoint", run_folder, "--format", "safetensors", "-o", "hub").out == "hub\n"
    assert run("export", "--checkpoint", "hub", "--format", "onnx").out == "hub.onnx\n"


def test_names() -> None:
    assert default_name(Path("runs/a.b/checkpoints/best.safetensors")) == "a.b"
    assert default_name(Path("kept/model-7.safetensors")) == "model-7"
    assert default_name(Path("there/model.safetensors")) == "there"


@pytest.mark.parametrize(("kind", "name"), [("onnx", "cats.onnx"), ("safetensors", "cats-export")])
def test_nothing_is_written_over(run_folder: Path, kind: str, name: str) -> None:
    words = ("export", "--checkpoint", run_folder, "--format", kind)
    assert run(*words).code == 0
    before = snapshot()
    again = run(*words)
    assert again.code == 2 and not again.out
    assert f"error: {name}: already exists and is left untouched; choose another name with -o" in again.err
    empty = Path("empty")
    empty.mkdir()
    assert run(*words, "-o", empty).code == 2
    link = Path("link")
    link.symlink_to("nowhere")
    assert run(*words, "-o", link).code == 2
    empty.rmdir()
    link.unlink()
    assert snapshot() == before
    missing = run(*words, "-o", "no/such/x")
    assert missing.code == 2 and "no such folder: no/such" in missing.err


def test_the_writers_themselves_write_over_nothing() -> None:
    Path("folder").mkdir()
    Path("file").write_bytes(b"mine")
    before = snapshot()
    for write in (write_hub, write_onnx):
        for path in before:
            with pytest.raises(UsageError, match="already exists"):
                write(make_saved(), Path(path))
    assert snapshot() == before


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package(run_folder: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = run("export", "--checkpoint", run_folder, "--format", "onnx")
    assert result.code == 2 and "pip install 'charrnn[onnx]'" in result.err
    assert not Path("cats.onnx").exists()
    assert run("export", "--checkpoint", run_folder, "--format", "safetensors").code == 0


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("charrnn.runs.files.disk.write", fail)
    yield


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_nothing() -> None:
    for write in (write_hub, write_onnx):
        with pytest.raises(UsageError, match="there: cannot be written: No space left on device"):
            write(make_saved(), Path("there"))
    assert not snapshot()


def test_the_loss_belongs_to_the_weights(run_folder: Path) -> None:
    best = load_model(run_folder, CPU)
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["val_loss"] for row in rows if "val_loss" in row}
    assert best.val_loss == losses[best.steps]
    (older,) = (run_folder / "checkpoints").glob("step-*")
    assert load_model(older, CPU).steps not in losses and load_model(older, CPU).val_loss is None
