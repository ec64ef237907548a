"""``charrnn report``: what the page says against what stands in the runs' files; foreign text, and what is missing."""

from __future__ import annotations

import json
import re
import signal
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from charrnn.errors import CheckpointError, DataError, Interrupted, UsageError
from charrnn.plots import report as plots_report
from charrnn.plots.report import Checked, Examined, draw_report
from charrnn.runs.directory import RunFolder
from charrnn.runs.lock import FolderLock
from charrnn.runs.run import read_run
from charrnn.studies import report as studies_report
from charrnn.studies.doctor.examination import Examination
from charrnn.studies.doctor.finding import Finding, healthy
from charrnn.studies.doctor.probes.reading import Reading
from charrnn.studies.doctor.probes.through_time import Profile
from charrnn.studies.report import LEFT_OUT, report
from charrnn.studies.report_rates import read_rates
from charrnn.studies.report_words import duration, environment_words, reach_words, verdict
from charrnn.text.places import Places
from tests.command_line import run, snapshot
from tests.conftest import TEXT, make_config
from tests.helpers import begin, train
from tests.reports import EVIL, ROWS, SHA, evaluation, log, run_folder
from tests.test_bad_input import cases, refused
from tests.test_plots import ANSWER, TRIALS, a_finding, a_sweep

INLINE = ("a", "code", "span")
MADE = datetime(2026, 5, 4, 3, 2, tzinfo=UTC)
SHARES = [0.5**k for k in range(20)]
PROBLEM = Finding("rate", True, "Too fast.", "measured <4>", "threshold 2", "It overshoots.", "charrnn lr-find")
SECOND = Finding("units", True, "Dead units.", "9 of 10", "1 of 10", "They are dead.", "charrnn train")
HEALTHY = healthy("clipping", "Clipping is rare.", "1 %", "20 %")


def examination(*problems: Finding) -> Examination:
    profile, reading = Profile(SHARES, None), Reading([2.0], [2.0], {1: 2.0})
    return Examination("a run", list(problems), [HEALTHY], profile, reading, 10, "character", {})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without their drawing, which takes longer than all the rest."""
    figure = Markup(
        '<figure><svg role="img" aria-label="{}"></svg><figcaption id="{}-caption">{}</figcaption></figure>'
    )
    monkeypatch.setattr(
        plots_report,
        "inline_figure",
        lambda _, identifier, name, description: figure.format(name, identifier, description),
    )


class Page(HTMLParser):
    """What a reader gets: text, headings, elements with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self._text: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self._text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        self._text.append("" if tag in INLINE else " ")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open or "script" in self._open:
            return
        self._text.append(data)
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            level, text = self.headings[-1]
            self.headings[-1] = (level, (text + data).strip())

    def names(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(*paths: Path, places: Places | None = None) -> Page:
    return Page(draw_report(report(paths, "charrnn report x", MADE, places)))


@pytest.mark.usefixtures("quick")
class TestContent:
    def test_the_top(self) -> None:
        text = page(run_folder("cat", "run.note=why so small?")).text
        assert "Done after 60 steps and 6 s." in text
        assert "Its best validation loss is 1.8 nats, or 2.597 bits, per character, at step 60." in text
        assert "why so small?" in text
        assert "charrnn report x" in text
        assert "2026-05-04 03:02 UTC" in text

    def test_headings(self) -> None:
        found = page(run_folder("cat"))
        assert found.headings[0] == (1, "cat")
        sections = ["What the doctor says", "Curves", "Samples over time", "Settings", "Environment"]
        assert [name for level, name in found.headings if level == 2] == [*sections, "How this page was made"]

    def test_samples(self) -> None:
        """Six of them: the first, the last and two between are open, the others folded."""
        headings = [name for _, name in page(run_folder("cat")).headings if name.startswith("Step")]
        assert [name.split(",")[0] for name in headings] == [f"Step {step}" for step in (10, 30, 40, 60, 20, 50)]
        assert headings[3] == "Step 60, validation loss 1.8"

    @pytest.mark.parametrize("count", [1, 2, 3, 4])
    def test_few_samples_are_all_shown(self, count: int) -> None:
        rows = [evaluation(step, 2.0) for step in range(1, count + 1)]
        (chapter,) = report([run_folder("cat", rows=rows)], "", MADE, None).chapters
        assert [one.shown for one in chapter.samples] == [True] * count

    def test_a_sample_keeps_its_lines(self) -> None:
        html = draw_report(report([run_folder("cat", rows=[evaluation(1, 2.0, "\n  a\n\n b\t\n")])], "", MADE, None))
        assert '<pre class="sample" dir="auto">\n  a\n\n b\t</pre>' in html

    def test_settings(self) -> None:
        """Against the shipped config that it was made from: the run's value and that one's."""
        environment = {"config": "quickstart.yaml"}
        (chapter,) = report([run_folder("cat", environment=environment)], "", MADE, None).chapters
        assert chapter.base == "quickstart.yaml"
        changed = {one.name: (one.value, one.shipped) for one in chapter.changed}
        assert changed["model.hidden_size"][0] == "8"
        assert changed["model.hidden_size"][1] != "8"
        assert changed["corpus.source"][0] == "cat.txt"
        assert "run.name" not in changed
        assert chapter.config == RunFolder(Path("runs/cat")).config.read_text()

    def test_chosen_settings(self) -> None:
        text = page(run_folder("cat", environment={"chosen": ["8 units: a short text", EVIL]})).text
        assert "All settings were chosen for the text." in text
        assert "8 units: a short text" in text
        assert f"chosen {EVIL}" not in text
        environment = {"chosen": ["8 units"], "given": ["training.lr", "training.batch_size"]}
        text = page(run_folder("dog", environment=environment)).text
        assert re.search(r"Given were .*batch_size=4.*lr=0\.01.*; all other settings were chosen for the text\.", text)

    def test_environment(self) -> None:
        stands_elsewhere = {"chosen": ["x"], "given": ["y"]}
        told = {"threads": 2, **stands_elsewhere, "corpus": {"characters": 12345, "name": "cat"}}
        assert environment_words(told) == [
            ("threads", "2"),
            ("corpus: characters", "12,345"),
            ("corpus: name", "cat"),
        ]
        text = page(run_folder("cat")).text
        assert SHA in text
        assert "charrnn train --set 'run.note=two words'" in text

    def test_the_clipped_share_is_of_steps_not_of_lines(self) -> None:
        rows = [{**log(50, 3.0), "clipped": 0.4}, {**log(51, 2.9), "clipped": 1.0}]
        assert "Clipped at 1: 41.2% of the steps." in page(run_folder("cat", rows=rows)).text

    def test_captions_have_the_numbers(self) -> None:
        text = page(run_folder("cat")).text
        assert "Training loss: 3.5 nats per character at step 10, 1 at step 60." in text
        assert "Validation loss: 2.8 nats per character at step 10, 1.8 at step 60; lowest 1.8 at step 60." in text
        assert "Speed: 5,000 characters per second" in text and "bytes" not in text
        assert "Gradient norm, means between 0.1 and 0.35. Clipped at 1: 25.0% of the steps." in text
        assert "0.01 at most" in text
        assert "gradient norm from 0.05 (decoder.bias) to 0.1 (decoder.weight);" in text

    @pytest.mark.parametrize(
        ("state", "rows", "says"),
        [
            ("interrupted", ROWS[:-1], "Interrupted after 60 steps"),
            (
                "interrupted",
                [log(10, 3.0), {"step": 14, "seconds": 1.4, "interrupted": True}],
                "Interrupted after 14 steps",
            ),
            ("diverged", [*ROWS[:4], {"step": 21, "seconds": 2.1, "steps_not_finite": 1}], "Diverged after 21 steps"),
            ("interrupted", [log(10, 3.0)], "It has not been evaluated."),
            ("interrupted", [], "Interrupted after 0 steps."),
        ],
    )
    def test_other_states(self, state: str, rows: list[dict[str, Any]], says: str) -> None:
        path = run_folder("cat", rows=rows)
        assert read_run(path).state == state
        assert says in verdict(read_run(path))
        assert says in page(path).text

    def test_still_training(self) -> None:
        path = run_folder("cat", rows=ROWS[:-1])
        with FolderLock(RunFolder(path)):
            assert "Still training, so far for 60 steps and 6 s." in page(path).text

    @pytest.mark.parametrize(
        ("seconds", "words"), [(0.2, "0 s"), (59.7, "1 min 0 s"), (723, "12 min 3 s"), (3725, "1 h 2 min")]
    )
    def test_durations(self, seconds: float, words: str) -> None:
        assert duration(seconds) == words

    def test_how_far_back(self) -> None:
        words = reach_words(Profile(SHARES, None), 10, "character")
        assert "hidden state" in words
        assert "below 1\u00a0% from 7 characters back on: 0.5 at 1, 0.062 at 4, 1.5e-05 at 16." in words
        assert "stays above 1\u00a0% for all 4 bytes" in reach_words(Profile([1.0] * 5, [1.0] * 5), 10, "byte")


@pytest.mark.usefixtures("quick")
class TestDoctor:
    @pytest.fixture(autouse=True)
    def examined(self, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        """The doctor finds two problems, at once."""
        asked: list[Path] = []

        def examine(path: Path, places: Places, advanced: Any) -> Examination:
            asked.append(path)
            advanced("looking", 0.5)
            return examination(PROBLEM, SECOND)

        monkeypatch.setattr(studies_report, "examine_folder", examine)
        return asked

    def test_problems_come_first(self, places: Places) -> None:
        text = page(run_folder("cat"), places=places).text
        assert "The doctor found 2 problems; first: Too fast." in text
        order = ["Too fast. Measured measured <4> Threshold threshold 2 Meaning It overshoots. Try charrnn lr-find"]
        order += ["Dead units. Measured 9 of 10", "1 check with a healthy result", "Clipping is rare. 1 %"]
        assert [text.index(one) for one in order] == sorted(text.index(one) for one in order)
        assert "below 1 % from 7 characters back on" in text

    def test_no_problem(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(studies_report, "examine_folder", lambda *_: examination())
        text = page(run_folder("cat"), places=places).text
        assert "The doctor found no problem. What the doctor says No problem found." in text

    def test_left_out(self, examined: list[Path]) -> None:
        found = page(run_folder("cat"))
        assert LEFT_OUT in found.text
        assert "How far back it learns" not in [name for _, name in found.headings]
        assert examined == []

    @pytest.mark.parametrize("error", [CheckpointError, DataError, UsageError])
    def test_a_failed_examination_is_a_sentence(
        self, error: type[UsageError], places: Places, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise error(f"cat: {EVIL}")

        monkeypatch.setattr(studies_report, "examine_folder", fail)
        found = page(run_folder("cat"), places=places)
        assert f"The doctor could not examine this run: cat: {EVIL}" in found.text
        assert (2, "Curves") in found.headings

    def test_an_interruption_is_none(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(*_: object) -> None:
            raise Interrupted("left", signal.SIGINT)

        monkeypatch.setattr(studies_report, "examine_folder", stop)
        with pytest.raises(Interrupted):
            page(run_folder("cat"), places=places)

    def test_progress_over_all_runs(self, places: Places, examined: list[Path]) -> None:
        told: list[tuple[str, float]] = []
        paths = [run_folder("cat"), run_folder("dog")]
        report(paths, "", MADE, places, lambda stage, share: told.append((stage, share)))
        assert told == [("cat: looking", 0.25), ("dog: looking", 0.75)]
        assert examined == paths


def test_a_run_without_checkpoints(places: Places) -> None:
    (chapter,) = report([run_folder("cat")], "", MADE, places).chapters
    assert str(chapter.examined).startswith("The doctor could not examine this run: ")


def test_a_real_visit(places: Places, text_file: Path) -> None:
    train(begin(make_config(str(text_file), "run.out=runs", "training.max_steps=20"), places))
    (chapter,) = report([Path("runs/run")], "", MADE, places).chapters
    assert isinstance(chapter.examined, Examined)
    assert all(isinstance(one, Checked) and one.title for one in chapter.examined.healthy)
    assert chapter.examined.through_time.seq_len == 10
    assert TEXT.startswith("the cat")


@pytest.mark.usefixtures("quick")
class TestRates:
    """Which search belongs to a run, and what is said of it."""

    def keep(self, name: str, **more: Any) -> None:
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        config = make_config("cat.txt", "training.batch_size=2").model_dump(mode="json")
        found = {**a_finding(a_sweep(1), a_sweep(2), **more), "name": name, "config": config}
        (folder / "lr-find.json").write_text(json.dumps(found))

    def test_none(self) -> None:
        path = run_folder("cat")
        self.keep("dog-lr-find")
        self.keep("cat-lr-finder")
        assert read_rates(read_run(path)) is None
        assert "Search for the learning rate" not in page(path).text

    @pytest.mark.parametrize(
        ("run_name", "folders", "chosen"),
        [
            ("cat", ["cat-lr-find"], "cat-lr-find"),
            ("cat", ["cat-lr-find", "cat-lr-find-2", "cat-lr-find-10"], "cat-lr-find-10"),
            ("cat-2", ["cat-lr-find"], "cat-lr-find"),
            ("cat-2", ["cat-lr-find", "cat-2-lr-find"], "cat-2-lr-find"),
        ],
    )
    def test_which(self, run_name: str, folders: list[str], chosen: str) -> None:
        path = run_folder(run_name)
        for name in folders:
            self.keep(name)
        rates = read_rates(read_run(path))
        assert rates is not None
        assert rates.folder == chosen

    def test_words(self) -> None:
        path = run_folder("cat")
        self.keep("cat-lr-find", trials=TRIALS, **ANSWER)
        found = page(path)
        assert "The best rate of the short trainings is 0.021, after 50 steps." in found.text
        assert "Recommended: 0.011, within 0.0095 to 0.01, for 400 steps. This run has 0.01." in found.text
        assert "The search was made with other settings: training.batch_size 2 instead of 4." in found.text
        assert any(one.get("aria-label") == "Loss against the learning rate" for one in found.names("svg"))

    def test_no_answer(self) -> None:
        path = run_folder("cat")
        self.keep("cat-lr-find", problem="the loss does not fall")
        assert "No rate was found: the loss does not fall." in page(path).text

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"lr": 1, "proven": 3, "config": {}}'])
    def test_damaged(self, content: str) -> None:
        path = run_folder("cat")
        self.keep("cat-lr-find")
        Path("runs/cat-lr-find/lr-find.json").write_text(content)
        assert "lr-find.json" in page(path).text


@pytest.mark.usefixtures("quick")
class TestBytes:
    def test_losses_are_per_byte(self) -> None:
        text = page(run_folder("cat", "corpus.vocabulary=bytes")).text
        assert "bits, per byte, at step 60. This run reads bytes: a byte is what a character means below." in text
        assert "Training loss: 3.5 nats per byte at step 10" in text and "Validation loss: 2.8 nats per byte" in text
        assert "Speed: 5,000 bytes per second" in text
        assert "nats per character" not in text

    def test_beside_a_run_that_reads_characters(self) -> None:
        text = page(run_folder("cat", "corpus.vocabulary=bytes"), run_folder("dog")).text
        assert "best validation loss, nats per symbol 1.8 1.8 " in text
        assert "corpus.vocabulary is characters" in text
        assert text.count("bits, per byte, at step 60.") == text.count("bits, per character, at step 60.") == 1


@pytest.mark.usefixtures("quick")
class TestSeveral:
    def test_beside_each_other(self) -> None:
        worse = [log(10, 3.0), evaluation(10, 2.5), evaluation(20, 2.6, val_loss_cold=2.7)]
        paths = [run_folder("dog", "training.lr=0.5", rows=worse), run_folder("cat")]
        found = page(*paths)
        assert found.headings[0] == (1, "dog and cat")
        assert "The lowest validation loss is that of cat: 1.8 nats, or 2.597 bits, per character." in found.text
        assert "best validation loss, nats per character 2.5 1.8 " in found.text
        assert "steps 20 60 time 2 s 6 s training.lr 0.5 0.01 " in found.text
        assert [name for level, name in found.headings if level == 2][:3] == ["Curves over each other", "dog", "cat"]
        assert "cat: Training loss: 3.5 nats per character at step 10, 1 at step 60." in found.text
        links = {str(one["href"]).removeprefix("#") for one in found.names("a")}
        assert links <= {one.get("id") for _, one in found.elements}
        ids = [one["id"] for _, one in found.elements if one.get("id")]
        assert len(ids) == len(set(ids))

    def test_many_runs_have_no_names_in_the_title(self) -> None:
        assert page(*[run_folder(f"cat-{i}") for i in range(4)]).headings[0] == (1, "4 runs")

    def test_no_difference(self) -> None:
        assert "No setting differs." in page(run_folder("cat"), run_folder("dog")).text

    def test_equal_names_are_told_apart(self) -> None:
        paths = [run_folder("cat"), run_folder("more/cat")]
        assert page(*paths).headings[0] == (1, "runs/cat and runs/more/cat")

    def test_losses_that_do_not_compare(self) -> None:
        other = {"corpus": {"name": "dog.txt", "sha256": "f" * 64}}
        text = page(run_folder("cat"), run_folder("dog", environment=other)).text
        assert "runs/dog: its text is dog.txt (sha256 ffffffff)" in text
        assert "The lowest validation loss" not in text


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of two runs, with all figures, in which every foreign text would be markup."""
    name = EVIL.replace("/", "")
    finding = Finding("evil", True, EVIL, EVIL, EVIL, EVIL, EVIL)
    rows = [log(1, 3.0), evaluation(1, 2.0, EVIL)]
    environment = {EVIL: EVIL, "chosen": [EVIL]}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("evil"))
        patch.setattr(studies_report, "examine_folder", lambda *_: examination(finding))
        paths = [
            run_folder(f"{name}{i}", f"run.note={EVIL}", "run.name=x", rows=rows, environment=environment)
            for i in range(2)
        ]
        return draw_report(report(paths, EVIL, MADE, Places(data=(), cache=Path("cache"))))


class TestForeignText:
    def test_it_stays_text(self, evil: str) -> None:
        found = Page(evil)
        assert not found.names("img")
        assert not found.names("script")
        # Of each run: title and first problem, five parts of it, sample, note, reason, environment twice, config.
        assert found.text.count(EVIL) == 2 * 12 + 1
        assert not any(key.startswith("on") for _, one in found.elements for key in one)

    def test_no_reference_to_anything_outside(self, evil: str) -> None:
        for tag, attributes in Page(evil).elements:
            for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                address = attributes.get(name) or "#"
                assert address.startswith("#") or (tag, address) == ("link", "data:,"), (tag, name, address)
        assert not re.search(r"@import|url\((?!#)", evil)

    def test_every_figure_has_a_text_alternative(self, evil: str) -> None:
        found = Page(evil)
        ids = {one.get("id") for _, one in found.elements}
        drawn = found.names("svg")
        assert len(drawn) == 2 * 7  # wide and narrow: together; curves, parameters, gradient through time of each run
        for one in drawn:
            assert one["role"] == "img"
            assert one["aria-label"]
            assert one["aria-describedby"] in ids

    @pytest.mark.usefixtures("quick")
    def test_nothing_steers_the_page(self) -> None:
        rows = [evaluation(1, 2.0, "a\u202eb\x00c\x1bd\ud800")]
        html = draw_report(report([run_folder("cat", "run.note=x\u202ey", rows=rows)], "", MADE, None))
        assert "a□b␀c␛d□" in html
        assert "x□y" in html
        assert not set("\u202e\x00\x1b\ud800") & set(html)


@pytest.mark.usefixtures("quick")
class TestCommand:
    def test_page(self) -> None:
        run_folder("cat")
        result = run("report", "runs/cat", "--no-doctor")
        assert (result.code, result.out, result.err) == (0, "", "Page: report.html\n")
        text = Page(Path("report.html").read_text()).text
        assert "charrnn report runs/cat --no-doctor" in text
        assert LEFT_OUT in text

    def test_the_runs_stay_as_they_are(self) -> None:
        run_folder("cat")
        before = snapshot()
        assert run("report", "runs/cat", "-o", "other.htm").code == 0
        after = snapshot()
        assert after.pop("other.htm")
        assert after == before

    @cases(
        ("report", "RUN"),
        ("report runs/none", "runs/none: no such run folder", "'charrnn train' prints where"),
        ("report runs/cat runs/none", "runs/none: no such run folder"),
        ("report runs/cat/config.yaml", "is a file; give a run folder"),
        ("report runs", "runs"),
        ("report runs/cat runs/../runs/cat", "runs/../runs/cat: is given twice; give each run once"),
        ("report runs/cat -o report.pdf", "report.pdf: a page's name ends in .html"),
        ("report runs/cat -o none/report.html", "no such folder: none"),
        ("report runs/broken", "runs/broken/environment.json: not JSON"),
    )
    def test_refused(self, words: str, says: tuple[str, ...]) -> None:
        run_folder("cat")
        RunFolder(run_folder("broken")).environment.write_text("{\n")
        refused(words, *says)
