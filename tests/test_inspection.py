"""``charrnn inspect``: surprise and states against a plain run of the model, properties against hand-marked texts, and
a ranking that finds what was planted and nothing in noise.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from charrnn.config.schema import ModelConfig
from charrnn.errors import CharRNNError, DataError
from charrnn.model.charrnn import CharRNN
from charrnn.plots.inspect import (
    DIGITS,
    THEMES,
    InspectionPage,
    Surprise,
    Unit,
    bit_level,
    contrast,
    draw_inspection,
    encode_states,
    visible,
)
from charrnn.runs.saved import SavedModel, load_model
from charrnn.studies.inspection import Inspection, inspect_model, parse_unit, read
from charrnn.studies.inspection_page import SHOWN, inspection_page
from charrnn.studies.properties import PROPERTIES, Property
from charrnn.studies.tracking import FEWEST_STRETCHES, Tracked, auc, track
from charrnn.text.places import Places
from charrnn.training.evaluation import evaluate
from charrnn.training.precision import Precision
from tests.command_line import run, snapshot
from tests.conftest import TEXT, make_config
from tests.helpers import begin, train
from tests.test_bad_input import cases, refused

CPU = torch.device("cpu")
BY_NAME = {prop.name: prop for prop in PROPERTIES}
EVIL = "</script><img src=x onerror=alert(1)>"


def small_model(cell: str = "lstm", layers: int = 2, symbols: int = 7, **settings: Any) -> CharRNN:
    torch.manual_seed(3)
    values = {"cell": cell, "num_layers": layers, "hidden_size": 5, "embedding_size": 4, **settings}
    model = CharRNN(symbols, ModelConfig.model_validate(values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.7 if cell == "rnn_relu" else 2)  # predictions that differ; rectified ones would explode
    return model


def some_ids(count: int, symbols: int = 7) -> NDArray[np.int64]:
    return np.random.default_rng(5).integers(symbols, size=count)


def trained_on(text: str, folder: Path, *assignments: str) -> SavedModel:
    (folder / "text.txt").write_text(text)
    sizes = ("model.num_layers=1", "training.max_steps=5", f"run.out={folder}", *assignments)
    session = begin(make_config(str(folder / "text.txt"), *sizes), Places(data=(), cache=folder / "cache"))
    train(session)
    return load_model(folder / "run", CPU)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A network that knows all printable ASCII, after five steps."""
    printable = "".join(map(chr, range(32, 127))) + "\n\t"
    return trained_on(TEXT + printable * 20, tmp_path_factory.mktemp("trained"))


def inspected(saved: SavedModel, text: str, length: int = 20_000) -> Inspection:
    Path("given.txt").write_text(text, encoding="utf-8")
    return inspect_model(saved, Places.from_environment(), "given.txt", length)


class TestReading:
    @pytest.mark.parametrize("skip", [False, True])
    @pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
    def test_bits_and_states_are_the_models(self, cell: str, skip: bool) -> None:
        model, ids = small_model(cell, skip_connections=skip), some_ids(600)
        x = torch.from_numpy(ids)[None]
        reading = read(model, ids)
        with torch.inference_mode():
            probabilities = model(x, model.zero_hidden(1))[0][0].softmax(dim=-1).numpy()
            hidden, expected_states = model.zero_hidden(1), []
            for place in range(len(ids)):
                _, hidden = model(x[:, place : place + 1], hidden)
                shown = torch.tanh(hidden[1]) if cell == "lstm" else hidden[0]
                expected_states.append(shown.flatten().numpy())  # layer after layer
        assert math.isnan(reading.bits[0])
        assert reading.bits[1:] == pytest.approx(-np.log2(probabilities[np.arange(599), ids[1:]]), abs=1e-4)
        assert reading.states.dtype == np.float32
        assert np.allclose(reading.states, expected_states, atol=1e-5)
        assert (reading.likeliest[1:] == np.argsort(-probabilities[:-1], axis=1)[:, :3]).all()
        assert np.allclose(reading.probabilities[1:], -np.sort(-probabilities[:-1], axis=1)[:, :3], atol=1e-5)

    @pytest.mark.parametrize("count", [2, 256, 257, 700])
    def test_the_mean_is_the_cold_loss(self, count: int) -> None:
        model, ids = small_model(), some_ids(count)
        told: list[float] = []
        reading = read(model, ids, told.append)
        cold = evaluate(model, ids.astype(np.uint8), (0, count), Precision("fp32", "", "cpu"), carried=False)
        assert cold is not None
        assert len(reading.bits) == len(reading.states) == len(reading.likeliest) == count
        assert reading.bits[1:].mean() == pytest.approx(cold.bpc, abs=1e-5)
        assert told == sorted(told)
        assert told[-1] == 1

    def test_a_vocabulary_of_two(self) -> None:
        reading = read(small_model(symbols=2), some_ids(10, 2))
        assert reading.likeliest.shape == (10, 2)
        assert reading.probabilities[1:].sum(axis=1) == pytest.approx(np.ones(9))


class TestProperties:
    @pytest.mark.parametrize(
        ("name", "text", "marks"),
        [
            ("quotes", 'He said "yes" now', "00000000111100000"),
            ("quotes", 'a """b "c" d\n\ne""" f', "00111111111111111000"),
            ("quotes", 'no "end of it\n\nand "one" more', "0" * 19 + "1111" + "0" * 6),
            ("quotes", 'two "li\nnes" of it', "000011111110000000"),
            ("quotes", r'a "b\"c" d', "0011111000"),
            ("quotes", "a “b” „c“ «d» »e« f", "0011001100110011000"),
            ("quotes", 'x = \'"\' + "a"', "0" * 10 + "110"),
            ("single quotes", 'x = \'"\' + "a"', "0000110000000"),
            ("single quotes", "don't say 'no' to dogs'", "00000000001110000000000"),
            ("single quotes", "'tis th\nown'", "0" * 12),
            ("single quotes", "f'a' + rb'b' of'c'", "111000011110000000"),
            ("single quotes", r"'\'' x", "111000"),
            ("single quotes", "it\u2018s \u2018so\u2019 ok", "000001110000"),
            ("line position", "ab\n\ncd", "120012"),
            ("brackets", "f(a[0], {b}) )(", "011221112210000"),
            ("brackets", "(\n\n)", "0000"),
            ("brackets", "([)a]", "11000"),
            ("brackets", "x (a\n b) c", "0011111000"),
            ("indentation", "a\n  b\n\n   c\nd", "00" + "1220" + "0" + "12330" + "0"),
            ("indentation", " \tb\n\t c", "1880899"),
            ("capitals", "KING RICHARD II: I am A. O'NEIL", "111111111111111" + "0" * 10 + "111111"),
            ("capitals", "MAX_LEN of McDONald ÉA Éa", "1111111" + "0" * 13 + "11" + "000"),
            ("word position", "ab c3, d", "12012001"),
        ],
    )
    def test_hand_marked(self, name: str, text: str, marks: str) -> None:
        assert "".join(f"{value:.0f}" for value in BY_NAME[name].values(text)) == marks

    @pytest.mark.parametrize("prop", PROPERTIES, ids=lambda prop: prop.name)
    def test_any_text(self, prop: Property) -> None:
        random = np.random.default_rng(1)
        for _ in range(200):
            text = "".join(random.choice(list("ab AB\n\t'\"(){}[]“”«»\\é"), size=random.integers(60)))
            values = prop.values(text)
            assert values.shape == (len(text),)
            assert (values >= 0).all()
            assert not prop.is_yes_no or set(values) <= {0, 1}

    def test_a_quotation_has_an_end(self) -> None:
        for name, mark in (("quotes", '"'), ("single quotes", "'")):
            values = BY_NAME[name].values
            assert values(mark + "a" * 999 + mark).sum() == 1000
            assert values(mark + "a" * 1000 + mark).sum() == 0

    def test_many_open_brackets(self) -> None:
        assert BY_NAME["brackets"].values("(" * 20_000 + "]" * 20_000 + ")").sum() == 20_001


def planted(count: int = 4000, units: int = 40) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Noise, and a property that comes and goes at random, about 60 times."""
    random = np.random.default_rng(2)
    states = random.standard_normal((count, units)).astype(np.float32)
    return states, (random.random(count) < 1 / 30).cumsum() % 2 * 1.0


class TestTracking:
    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_unit_that_is_the_property(self, sign: int) -> None:
        states, values = planted()
        states[:, 17] = sign * values * 3 + 1
        found = track(states, values, BY_NAME["quotes"])
        assert found.best[0].unit == 17
        assert found.best[0].ranked == pytest.approx(sign, abs=1e-5)
        assert found.best[0].held_out == pytest.approx(sign, abs=1e-5)
        assert found.best[0].auc == 1
        assert [found.holds(one) for one in found.best] == [True, False, False]
        assert len(found.best) == 3

    def test_correlations_are_pearsons(self) -> None:
        states, values = planted()
        states[:, 3] += values * 0.7
        states[:, 9] -= values * 0.5
        found = track(states, values, BY_NAME["line position"])
        assert [one.unit for one in found.best[:2]] == [3, 9]
        for one in found.best:
            for half, value in ((slice(0, 2000), one.ranked), (slice(2000, None), one.held_out)):
                assert value == pytest.approx(np.corrcoef(states[half, one.unit], values[half])[0, 1], abs=1e-5)
            assert one.auc is None

    def test_the_second_half_decides(self) -> None:
        states, values = planted()
        states[:2000, 17] = values[:2000]
        states[:, 18] = np.concatenate([values[:2000] * 0.9, -values[2000:]]) + states[:, 18] * 0.1
        found = track(states, values, BY_NAME["quotes"])
        assert {one.unit for one in found.best[:2]} == {17, 18}
        assert not any(found.holds(one) for one in found.best)
        turned = next(one for one in found.best if one.unit == 18)
        assert turned.held_out < -0.9
        assert turned.auc is not None
        assert turned.auc < 0.1

    def test_noise_is_above_chance_as_rarely_as_it_should_be(self) -> None:
        held, ranked = 0, 0
        for seed in range(60):
            random = np.random.default_rng(seed)
            states = random.standard_normal((1500, 30)).astype(np.float32)
            values = (random.random(1500) < 1 / 20).cumsum() % 2 * 1.0
            found = track(states, values, BY_NAME["quotes"])
            assert found.chance_ranked is not None
            held += found.holds(found.best[0])
            ranked += abs(found.best[0].ranked) > found.chance_ranked
        assert held <= 6  # expected: 60 times 5 %, with either sign 2.5 %
        assert ranked <= 8

    def test_slow_units_and_slow_properties_are_no_find(self) -> None:
        """Where neighbours are alike a formula for independent characters would call nearly everything a find."""
        held, by_formula = 0, 0
        for seed in range(30):
            random = np.random.default_rng(seed)
            noise = random.standard_normal((2199, 30))
            sums = np.concatenate([np.zeros((1, 30)), noise]).cumsum(axis=0)
            states = (sums[200:] - sums[:-200]).astype(np.float32)  # means over 200
            values = (random.random(2000) < 1 / 80).cumsum() % 2 * 1.0
            found = track(states, values, BY_NAME["quotes"])
            held += any(found.holds(one) for one in found.best[:1])
            by_formula += bool(found.best) and abs(found.best[0].held_out) > 1.96 / math.sqrt(1000)
        assert by_formula > 15
        assert held <= 5

    def test_too_rare_is_not_ranked(self) -> None:
        states, values = planted(200)
        values[:] = 0
        values[10:99:20], values[110:190:20] = 1, 1  # 5 and 4 times
        found = track(states, values, BY_NAME["quotes"])
        assert found == Tracked(BY_NAME["quotes"], (5, 4))
        assert not found.is_present
        values[195] = 1
        assert track(states, values, BY_NAME["quotes"]).is_present
        assert FEWEST_STRETCHES == 5
        assert not track(states[:0], values[:0], BY_NAME["quotes"]).is_present

    def test_a_unit_that_never_moves(self) -> None:
        states, values = planted(2000, 4)
        states[:, :3] = [0, 1, -0.3]
        found = track(states, values, BY_NAME["quotes"])
        assert found.best[0].unit == 3
        assert [one.held_out for one in found.best[1:]] == [0, 0]

    def test_auc_counts_pairs(self) -> None:
        random = np.random.default_rng(1)
        scores, labels = random.integers(6, size=60).astype(np.float64), random.random(60) < 0.3
        pairs = [(a > b) + (a == b) / 2 for a in scores[labels] for b in scores[~labels]]
        assert auc(scores, labels) == pytest.approx(np.mean(pairs))


class TestInspection:
    def test_of_a_text(self, saved: SavedModel) -> None:
        text = 'A "quoted" word (and\n    a bracket) ...\n\n' * 40
        result = inspected(saved, text)
        ids = torch.from_numpy(saved.vocabulary.encode(text).astype(np.int64))
        with torch.inference_mode():
            log_p = saved.model(ids[None], saved.model.zero_hidden(1))[0][0].log_softmax(dim=-1)
        bits = -log_p[torch.arange(len(ids) - 1), ids[1:]] / math.log(2)
        assert result.mean_bits == pytest.approx(float(bits.mean()), abs=1e-5)
        assert result.characters == text
        assert np.allclose(result.reading.bits[1:], bits, atol=1e-4)
        present = {found.what.name for found in result.tracked if found.is_present}
        assert present == {"quotes", "line position", "brackets", "indentation", "word position"}
        assert [found.what for found in result.tracked] == list(PROPERTIES)
        json.dumps(result.to_dict(), allow_nan=False)

    def test_only_the_beginning_is_read(self, saved: SavedModel) -> None:
        assert inspected(saved, TEXT, 50).characters == TEXT[:50]

    def test_default_is_the_validation_part(self, saved: SavedModel) -> None:
        result = inspect_model(saved, Places.from_environment(), None, 40)
        text = Path(saved.corpus["source"]).read_text()
        assert text[int(len(text) * 0.9) :].startswith(result.characters)
        assert len(result.characters) == 40
        assert result.text_name == "text.txt, val"

    def test_surprises(self, saved: SavedModel) -> None:
        result = inspected(saved, TEXT[:200] + "~^Z@Q" + TEXT[200:400])
        found = result.surprises(5)
        bits = result.reading.bits
        assert found[0] == int(np.nanargmax(bits))
        assert [bits[place] for place in found] == sorted((bits[place] for place in found), reverse=True)
        assert min(abs(a - b) for a in found for b in found if a != b) > 30
        assert result.context(40) == (TEXT[10:40], TEXT[41:51])
        assert result.expected(0) == []
        (first, share), *_ = result.expected(7)
        assert first in saved.vocabulary.characters
        assert 0 < share < 1

    def test_bytes_are_taken_together(self, tmp_path: Path) -> None:
        saved = trained_on("häßlich “so” \n" * 200, tmp_path, "corpus.vocabulary=bytes")
        result = inspected(saved, "süß “x” \U0001f41d")
        ids = np.frombuffer("süß “x” \U0001f41d".encode(), np.uint8).astype(np.int64)
        plain = read(saved.model, ids)
        assert result.characters == "süß “x” \U0001f41d"
        assert result.reading.bits[1] == pytest.approx(plain.bits[1] + plain.bits[2])
        assert result.reading.bits[8] == pytest.approx(plain.bits[-4:].sum())
        assert (result.reading.states[1] == plain.states[2]).all()
        assert (result.reading.likeliest[2] == plain.likeliest[3]).all()
        assert result.mean_bits == pytest.approx(plain.bits[1:].mean())
        assert "per byte" in inspection_page(result).facts[0]
        Path("given.txt").write_bytes(b"ab\xe2cd\xff\xe2")
        broken = inspect_model(saved, Places.from_environment(), "given.txt", 100)
        assert broken.characters == "abcd\ufffd"
        assert len(broken.reading.bits) == len(broken.reading.states) == 5
        draw_inspection(inspection_page(broken))

    def test_a_character_that_is_cut_off_costs_no_other_anything(self, tmp_path: Path) -> None:
        saved = trained_on("häßlich “so” \n" * 200, tmp_path, "corpus.vocabulary=bytes")
        Path("given.txt").write_text("ab\U0001f41d\U0001f41d")

        def inspect(length: int) -> Inspection:
            return inspect_model(saved, Places.from_environment(), "given.txt", length)

        for length in (3, 5):
            assert inspect(length).characters == "ab"
            assert inspect(length).reading.bits[1] == inspect(2).reading.bits[1]
        Path("given.txt").write_text("\U0001f41d\U0001f41d")
        for length in (2, 4, 7):
            with pytest.raises(DataError, match="too short"):
                inspect(length)

    @pytest.mark.parametrize(("text", "says"), [("", "empty"), ("a", "too short"), ("é", "does not know")])
    def test_no_text(self, saved: SavedModel, text: str, says: str) -> None:
        with pytest.raises(DataError, match=says):
            inspected(saved, text)

    def test_unknown_characters_are_left_out(self, saved: SavedModel) -> None:
        Path("given.txt").write_text("aéb")
        assert inspect_model(saved, Places.from_environment(), "given.txt", 100, on_unknown="skip").characters == "ab"

    def test_a_broken_model(self, tmp_path: Path) -> None:
        saved = trained_on(TEXT, tmp_path)
        with torch.no_grad():
            saved.model.decoder.bias[0] = math.nan
        with pytest.raises(CharRNNError, match="not finite; use an earlier checkpoint"):
            inspected(saved, TEXT)

    def test_units_count_from_one(self) -> None:
        assert [parse_unit(word, 2, 5) for word in ("1:1", "1:5", "2:1", "2:5")] == [0, 4, 5, 9]


class TestPage:
    def test_levels(self) -> None:
        assert [bit_level(bits) for bits in (math.nan, 0, 0.99, 1, 7.9, 8, 99)] == [0, 0, 0, 1, 7, 8, 8]
        assert encode_states([-1, -0.5, 0, 0.05, 0.96, 1, 7, -7]) == "05aakkk0"

    def test_every_colour_can_be_read(self) -> None:
        html = draw_inspection(inspection_page_of("x"))
        dark = html.split("@media (prefers-color-scheme: dark)", 2)[-1]
        for part in (html[: html.index(dark)], dark):
            found = re.findall(r"\.(b\d|u[0-9a-k]){background:(#\w{6});color:(#\w{6})}", part)
            assert {name for name, _, _ in found} == {f"b{level}" for level in range(9)} | {f"u{d}" for d in DIGITS}
            assert min(contrast(background, text) for _, background, text in found) >= 4.5
        assert contrast("#000000", "#ffffff") == pytest.approx(21)
        assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # as WCAG's own examples have it

    def test_the_scales_end_on_the_page(self) -> None:
        base = Path(draw_inspection.__code__.co_filename).parent / "templates" / "base.html.j2"
        assert re.findall(r"--page: (#\w+)", base.read_text()) == [colours[0] for colours in THEMES.values()]

    @pytest.mark.parametrize(
        ("character", "shown"),
        [("a", "a"), ("\n", "↵"), (" ", "␣"), ("\t", "⇥"), ("\r", "␍"), ("\0", "␀"), ("\u202e", "□"), ("\xa0", "\xa0")],
    )
    def test_signs(self, character: str, shown: str) -> None:
        assert visible(character) == shown

    def test_foreign_text_stays_text(self, saved: SavedModel) -> None:
        html = draw_inspection(inspection_page(inspected(saved, (EVIL + "\n") * 200)))
        assert html.count("<script") == html.count("</script") == 1
        assert "<img" not in html
        html = draw_inspection(inspection_page_of(EVIL))
        assert html.count("</script") == 1
        assert "<img" not in html

    def test_shown_is_what_was_not_ranked_on(self, saved: SavedModel) -> None:
        page = inspection_page(inspected(saved, TEXT * 3))
        assert len(page.characters) == len(page.bits) == len(page.expected) == SHOWN
        first = TEXT.index("\n") + 1
        assert page.characters.startswith(TEXT[:first])
        start = int(re.findall(r"characters ([\d,]+) to", page.shown)[0].replace(",", ""))
        assert start > len(TEXT * 3) // 2
        assert all(len(unit.states) == SHOWN for unit in page.units)

    def test_size(self, saved: SavedModel) -> None:
        page = inspection_page(inspected(saved, TEXT * 3))
        assert len(draw_inspection(page).encode()) < 500_000

    def test_units_to_choose(self, saved: SavedModel) -> None:
        result = inspected(saved, TEXT[:3000])
        page = inspection_page(result, [4])
        best = [abs(one.held_out) for found in result.tracked for one in found.best if found.holds(one)]
        assert page.units[0].label.endswith(f"{max(best):.2f}")
        assert page.units[-1].label == "asked for: unit 1:5"
        assert page.units[-1].states == pytest.approx(result.reading.states[:, 4].tolist())
        assert len(page.units) == len(page.ranking) + 1

    def test_nothing_found(self, saved: SavedModel) -> None:
        page = inspection_page(inspected(saved, "ab"))
        assert [unit.label for unit in page.units] == ["the first: unit 1:1"]
        assert page.ranking == []
        assert "not present often enough" in draw_inspection(page)

    def test_rectified_units_keep_their_scale(self, tmp_path: Path) -> None:
        result = inspected(trained_on(TEXT, tmp_path, "model.cell=rnn_relu"), TEXT[:300])
        result.reading.states[:, 2] = np.linspace(0, 7, 300)
        unit = inspection_page(result, [2]).units[-1]
        assert unit.scale == pytest.approx(7)
        assert max(unit.states) == pytest.approx(1)


def inspection_page_of(text: str) -> InspectionPage:
    """A page on which every word is ``text``."""
    return InspectionPage(
        title=text,
        facts=[text],
        shown=text,
        characters=text,
        bits=[1.0] * len(text),
        expected=[text] * len(text),
        units=[Unit(text, text, [0.5] * len(text), 1.0)],
        ranking=[],
        notes=[text],
        surprises=[Surprise(1.0, text, text, text, text)],
    )


class TestCommand:
    @pytest.fixture(autouse=True)
    def here(self, saved: SavedModel, in_own_folder: Path) -> None:
        Path("cat.txt").write_text(TEXT)
        Path("dog.txt").write_text("Ünïcode")
        Path("nothing.txt").write_text("")
        Path("run").symlink_to(saved.path.parent.parent)

    def test_writes_a_page_and_says_where(self) -> None:
        before = set(snapshot())
        result = run("inspect", "--checkpoint", "run", "--text", "cat.txt", "--length", "3000")
        assert result.code == 0, result.err
        assert result.err.splitlines()[-1] == "Page: run-inspect.html"
        assert set(snapshot()) - before == {"run-inspect.html"}
        lines = result.out.splitlines()
        assert re.fullmatch(r"cat\.txt: 3,000 characters, \d\.\d{4} bits per character", lines[0])
        assert len([line for line in lines if re.match(r" +\d+\.\d bits  ", line)]) == 5
        assert any(line.startswith("quotes: not present often enough (begins 0 and 0") for line in lines)
        assert any(re.match(r"word position +1:\d +[+-]\d\.\d\d +\d\.\d\d", line) for line in lines)

    def test_json(self) -> None:
        result = run("inspect", "--checkpoint", "run", "--text", "cat.txt", "--json", "-o", "page.html")
        values = json.loads(result.out)
        assert Path("page.html").exists()
        assert values["characters"] == len(TEXT)
        assert [one["name"] for one in values["properties"]] == list(BY_NAME)
        lines = next(one for one in values["properties"] if one["name"] == "line position")
        assert lines["present"]
        assert len(lines["units"]) == 3
        assert set(lines["units"][0]) == {"unit", "ranked", "held_out", "auc", "holds"}
        assert len(result.out) < 20_000

    def test_what_is_left_out_is_told(self) -> None:
        result = run("inspect", "--checkpoint", "run", "--text", "dog.txt", "--on-unknown", "skip")
        assert "warning: dog.txt: 2 of 7 characters are left out" in result.err
        assert "2 of 7 characters are left out" in Path("run-inspect.html").read_text()

    def test_another_encoding(self) -> None:
        Path("latin.txt").write_bytes(TEXT.encode() + "\xe9".encode("latin-1"))
        words = ("inspect", "--checkpoint", "run", "--text", "latin.txt", "--on-unknown", "skip")
        assert "set corpus.encoding" in run(*words).err
        result = run(*words, "--set", "corpus.encoding=latin-1", "--json")
        assert json.loads(result.out)["characters"] == len(TEXT)

    def test_asked_units_are_on_the_page(self) -> None:
        run("inspect", "--checkpoint", "run", "--text", "cat.txt", "--length", "300", "--unit", "1:7", "--unit", "1:2")
        html = Path("run-inspect.html").read_text()
        assert "asked for: unit 1:7" in html
        assert "asked for: unit 1:2" in html

    @cases(
        ("inspect", "--checkpoint"),
        ("inspect --checkpoint none", "none"),
        ("inspect --checkpoint run --text none.txt", "none.txt", "No such file", "give a file"),
        ("inspect --checkpoint run --text nothing.txt", "nothing.txt", "empty"),
        ("inspect --checkpoint run --text dog.txt", "dog.txt", "does not know", "--on-unknown skip"),
        (
            "inspect --checkpoint run --text cat.txt --set corpus.min_count=2",
            "--set corpus.min_count",
            "--text is read",
        ),
        ("inspect --checkpoint run --set corpus.encoding=latin-1", "--set corpus.encoding", "--text is read"),
        ("inspect --checkpoint run --text cat.txt --unit 3", "--unit 3", "LAYER:UNIT"),
        ("inspect --checkpoint run --text cat.txt --unit 1:x", "--unit 1:x", "LAYER:UNIT"),
        ("inspect --checkpoint run --text cat.txt --unit 1:9", "--unit 1:9", "1:1 to 1:8"),
        ("inspect --checkpoint run --text cat.txt --unit 0:1", "--unit 0:1", "no such unit"),
        ("inspect --checkpoint run --text cat.txt --unit 2:1", "--unit 2:1", "no such unit"),
        ("inspect --checkpoint run --text cat.txt --length 1", "--length"),
        ("inspect --checkpoint run --text cat.txt -o page.png", "page.png", ".html"),
        ("inspect --checkpoint run --text cat.txt -o none/page.html", "none", "no such folder"),
        ("inspect --checkpoint run --text cat.txt --device toaster", "--device toaster"),
    )
    def test_refused(self, words: str, says: tuple[str, ...]) -> None:
        refused(words, *says)

    def test_help(self) -> None:
        result = run("inspect", "--help")
        assert result.code == 0
        assert "charrnn inspect --checkpoint runs/shakespeare" in result.out
