"""Every input of texts and configs that a user can get wrong, in the order of the list, at the level of the command.

A line of the list is a section here. What has its test elsewhere is not tested twice:

    Text    missing, a device, empty, one character   test_bad_input.test_train, test_eval, test_corpus_and_config
            unreadable                                test_bad_input.test_unreadable_file
            stdin, FIFO (what is kept of them)        test_corpus.TestReadOnce, test_cli.test_text_from_standard_input
            invalid UTF-8 (which byte, which line)    test_bad_input (latin.txt), test_encoding.TestReading
            changed between runs                      test_bad_input.TestTextOfARun, test_keeping.TestOtherText
            changed while it is read                  test_encoding.TestTextThatChanges
    Config  every value and every YAML oddity         test_config.TestValues, TestYaml: the loader alone
            too large for this machine's memory       test_bad_input.test_train (needs at least 34,91. GB)
            damaged at random                         test_fuzz.config_edits; hostile: test_malice
"""

from __future__ import annotations

import codecs
import json
import os
import re
import shutil
import threading
from pathlib import Path

import pytest

from charrnn.runs.checkpoint import read_checkpoint
from tests.command_line import Result, run, snapshot
from tests.conftest import TEXT
from tests.test_bad_input import ADVICE, refused

CONFIG = """\
corpus: {source: cat.txt}
model: {hidden_size: 8, embedding_size: 4}
training: {batch_size: 4, seq_len: 10, max_steps: 2, device: cpu, threads: 1}
run: {sample_length: 20}
"""
TRAIN = "train --config ok.yaml --data given.txt"
HEART = "characters to train on are soon known by heart"
FEW = "characters to validate on are few: chance moves their mean loss by"
SHARE = "a larger second share of corpus.split, for 100 or more"


@pytest.fixture(autouse=True)
def here(in_own_folder: Path) -> None:
    """This folder: a config, and a text that is good."""
    Path("ok.yaml").write_text(CONFIG)
    Path("cat.txt").write_text(TEXT)


def trains(*words: str, stdin: bytes = b"") -> Result:
    """A training of two steps, samples included, in ``runs/ok``."""
    result = run("train", "--config", "ok.yaml", *words, stdin=stdin)
    assert (result.code, result.out) == (0, ""), result.err
    assert "Traceback" not in result.err
    return result


def trained_on(text: str) -> None:
    """The run in ``runs/ok`` was trained on these characters, one by one, and can write them."""
    state = read_checkpoint(Path("runs/ok/checkpoints/last.safetensors"))
    assert "".join(map(chr, state["vocabulary"]["code_points"])) == "".join(sorted(set(text)))
    assert state["corpus"]["characters"] == len(text)
    written = run("sample", "--checkpoint", "runs/ok", "--temperature", "9", "--length", "300")
    assert written.code == 0
    assert len(set(written.out)) >= min(len(set(text)), 4)


class TestShortText:
    @pytest.mark.parametrize(("length", "there"), [(48, 43), (30, 27), (12, 10), (4, 3), (3, 2)])
    def test_the_length_needed_and_sizes_that_fit(self, length: int, there: int) -> None:
        Path("given.txt").write_text(("ab" * length)[:length])
        needs = f"{there} characters, but batch_size 4 x (seq_len 10 + 1) needs 44"
        refused(TRAIN, "given.txt", needs, "--set training.batch_size=", "--set training.seq_len=")
        advised = re.findall(r"--set (training\.\w+=\d+)", run(*TRAIN.split()).err)
        trains("--data", "given.txt", *(word for assignment in advised for word in ("--set", assignment)))

    @pytest.mark.parametrize("length", [1, 2])
    def test_nothing_fits(self, length: int) -> None:
        Path("given.txt").write_text("ab"[:length])
        refused(TRAIN, "given.txt", f"{length - 1} characters", "needs 44; give more text")

    def test_just_long_enough(self) -> None:
        Path("given.txt").write_text("ab" * 24 + "a")  # nine tenths of 49 are 44
        trains("--data", "given.txt")

    @pytest.mark.parametrize(
        ("length", "share", "says"),
        [
            (50, 0.9, f"45 {HEART}, and 5 {FEW} 0.7 nats; give a longer text"),
            (1050, 0.9, f"945 {HEART}; give a longer text"),
            (1050, 0.98, f"21 {FEW} 0.3 nats; give more text, or {SHARE}"),
            (2000, 0.9, ""),
        ],
    )
    @pytest.mark.parametrize("kind", ["characters", "bytes"])
    def test_a_loss_that_says_little(self, length: int, share: float, says: str, kind: str) -> None:
        """One warning, whatever is short."""
        Path("given.txt").write_text("ab" * (length // 2))
        settings = (f"corpus.split=[{share},{1 - share:.2f}]", f"corpus.vocabulary={kind}")
        said = trains("--data", "given.txt", *(word for one in settings for word in ("--set", one))).err
        told = [line for line in said.splitlines() if "warning" in line]
        assert told == [f"warning: given.txt: {says.replace('characters', kind)}"] * bool(says)


class TestOneCharacter:
    @pytest.mark.parametrize("words", ["", "--set corpus.vocabulary=bytes"])
    def test_whatever_the_vocabulary(self, words: str) -> None:
        Path("given.txt").write_text("a" * 500)
        refused(f"{TRAIN} {words}", "given.txt", "one character over and over")

    def test_all_characters_folded_into_one(self) -> None:
        refused("train --config ok.yaml --set corpus.min_count=999999", "cat.txt", "999,999 times", "to 1,080 at most")


class TestControlCharacters:
    def test_kept(self) -> None:
        text = "a\0b\x01\x07\x08\x0b\x0c\x1b[31m\x7f\x85\u2028\n" * 30
        Path("given.txt").write_bytes(text.encode())
        assert "warning: 30 NUL characters are kept" in trains("--data", "given.txt").err
        trained_on(text)

    def test_no_word_of_what_is_not_there(self) -> None:
        """Nor of what is counted among the rare ones."""
        for words in ((), ("--set", "corpus.min_count=100")):
            assert not re.search("NUL|carriage", trains(*words).err)


class TestLineEnds:
    @pytest.mark.parametrize("end", ["\r\n", "\r"])
    def test_kept_and_reported(self, end: str) -> None:
        text = TEXT.replace("\n", end)
        Path("given.txt").write_bytes(text.encode())
        assert "warning: 60 carriage returns" in trains("--data", "given.txt").err
        trained_on(text)
        stats = run("corpus", "stats", "given.txt")
        assert (stats.code, "60 carriage returns (CR) are kept" in stats.err) == (0, True)


class TestByteOrderMark:
    def test_not_part_of_the_text(self) -> None:
        Path("given.txt").write_bytes(codecs.BOM_UTF8 + TEXT.encode())
        trains("--data", "given.txt")
        trained_on(TEXT)

    def test_not_part_of_a_prompt(self) -> None:
        trains()
        Path("prompt.txt").write_bytes(codecs.BOM_UTF8 + b"the cat")
        for words, stdin in ((("--prompt-file", "prompt.txt"), b""), (("--prompt", "-"), codecs.BOM_UTF8 + b"the cat")):
            result = run("sample", "--checkpoint", "runs/ok", "--length", "5", *words, stdin=stdin)
            assert (result.code, result.out[:7]) == (0, "the cat"), result.err

    def test_alone(self) -> None:
        Path("given.txt").write_bytes(codecs.BOM_UTF8)
        refused(TRAIN, "given.txt", "the text is empty but for a byte order mark", "give a file")


WIDE = {
    "utf-16": [(codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")],
    "utf-32": [(codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")],
}


class TestWideEncodings:
    @pytest.mark.parametrize(("name", "mark", "codec"), [(name, *row) for name in WIDE for row in WIDE[name]])
    def test_the_advice_helps(self, name: str, mark: bytes, codec: str) -> None:
        Path("given.txt").write_bytes(mark + TEXT.encode(codec))
        for command in (TRAIN, "corpus stats given.txt"):
            refused(command, "given.txt", "line 1 (0xf", f"set corpus.encoding: {name}")
        trains("--data", "given.txt", "--set", f"corpus.encoding={name}")
        trained_on(TEXT)

    @pytest.mark.parametrize("name", ["utf-16", "UTF_16", "utf-32"])
    def test_cut_within_a_character(self, name: str) -> None:
        """What is set already is no advice."""
        raw = TEXT.encode(name)[:-1]
        Path("given.txt").write_bytes(raw)
        place = f"byte {len(raw) - len('x'.encode(name)) // 2 + 1:,}, line 60"
        refused(f"{TRAIN} --set corpus.encoding={name}", "given.txt", place, "damaged there: restore it")

    def test_without_a_mark(self) -> None:
        """Valid UTF-8, and probably not what was meant: trained on, with a warning."""
        Path("given.txt").write_bytes(TEXT.encode("utf-16-le"))
        warning = f"{len(TEXT):,} NUL characters are kept; if the text is really UTF-16, set corpus.encoding: utf-16"
        assert warning in trains("--data", "given.txt").err

    def test_set_without_a_mark(self) -> None:
        Path("given.txt").write_bytes(TEXT.encode("utf-16-le"))
        refused(f"{TRAIN} --set corpus.encoding=utf-16", "given.txt", "set corpus.encoding: utf-16-le or utf-16-be")
        trains("--data", "given.txt", "--set", "corpus.encoding=utf-16-le")
        trained_on(TEXT)


class TestFolder:
    def test_runs_beside_the_text_are_none_of_it(self) -> None:
        for name in ("ok", "ok-2"):
            trains("--data", ".")
            state = read_checkpoint(Path(f"runs/{name}/checkpoints/last.safetensors"))
            assert state["corpus"]["bytes"] == len(TEXT)
        assert Path("runs/ok/samples.txt").stat().st_size
        for words in ("eval --checkpoint runs/ok", "train --resume runs/ok --set training.max_steps=4"):
            result = run(*words.split())
            assert result.code == 0, result.err

    def test_another_one_is_read_as_the_run_s_own(self) -> None:
        """With its pattern."""
        for folder in ("mine", "yours"):
            Path(folder).mkdir()
            Path(f"{folder}/text.md").write_text(TEXT)
            Path(f"{folder}/text.txt").write_text("!")
        trains("--data", "mine", "--set", "corpus.glob='*.md'")
        result = run("eval", "--checkpoint", "runs/ok", "--data", "yours", "--json")
        assert (result.code, json.loads(result.out)["characters"]) == (0, len(TEXT) - 1)

    def test_a_path_that_is_not_utf8(self, monkeypatch: pytest.MonkeyPatch) -> None:
        trains()
        folder = os.fsdecode(b"caf\xe9")
        Path(folder).mkdir()
        for name in ("ok.yaml", "cat.txt"):
            shutil.copy(name, folder)
        monkeypatch.chdir(folder)
        for words in ("train --config ok.yaml", "train --config ok.yaml --dry-run", "train --data cat.txt"):
            refused(words, "caf\\udce9/cat.txt': this path is not UTF-8", "give the text by a path that is")
        assert run("eval", "--checkpoint", "../runs/ok", "--data", "cat.txt").code == 0


class TestInvalidUtf8:
    RAW = TEXT.encode() + b"caf\xe9 na\xefve\n"
    PLACE = "byte 4,683, line 61 (0xe9)"

    @pytest.mark.parametrize("advice", ["corpus.encoding=latin-1", "corpus.encoding=cp1252", "corpus.vocabulary=bytes"])
    def test_each_suggestion_helps(self, advice: str) -> None:
        Path("given.txt").write_bytes(self.RAW)
        refused(TRAIN, "given.txt", self.PLACE, *re.split("[=.]", advice)[1:])
        trains("--data", "given.txt", "--set", advice)

    def test_cut_within_a_character(self) -> None:
        Path("given.txt").write_bytes(TEXT.encode() + "\N{EURO SIGN}".encode()[:2])
        refused(TRAIN, "given.txt", "byte 4,680, line 61 (0xe2)", "set corpus.encoding")

    @pytest.mark.parametrize("words", [("--prompt-file", "prompt.txt"), ("--prompt", "-")])
    def test_a_prompt_s_place_counts_its_mark(self, words: tuple[str, str]) -> None:
        trains()
        Path("prompt.txt").write_bytes(codecs.BOM_UTF8 + b"the \xff")
        sample = f"sample --checkpoint runs/ok {' '.join(words)}"
        refused(sample, "the prompt is not UTF-8 at byte 7", stdin=codecs.BOM_UTF8 + b"the \xff")

    def test_standard_input_is_called_so(self) -> None:
        refused("train --config ok.yaml --data -", "standard input (kept as ", self.PLACE, stdin=self.RAW)


class TestLoneSurrogates:
    def test_in_utf8(self) -> None:
        Path("given.txt").write_bytes(TEXT.encode() + b"\xed\xa0\x80")
        refused(TRAIN, "given.txt", "byte 4,680, line 61 (0xed)", "set corpus.encoding")

    def test_in_utf16(self) -> None:
        Path("given.txt").write_bytes("ab\n".encode("utf-16") + b"\x00\xd8" + TEXT.encode("utf-16-le"))
        refused(f"{TRAIN} --set corpus.encoding=utf-16", "given.txt", "byte 8, line 2", "damaged there: restore it")

    def test_where_an_encoding_lets_them_pass(self) -> None:
        """They are characters of their own; where they cannot be written something stands in their place."""
        text = "ab\ud800c\n" * 60
        Path("given.txt").write_bytes(text.encode("utf-7", "surrogatepass"))
        trains("--data", "given.txt", "--set", "corpus.encoding=utf-7")
        trained_on(text)
        assert Path("runs/ok/samples.txt").read_bytes().decode()


def test_a_changed_text_with_a_new_character() -> None:
    """``train`` cannot leave it out; the message says who can."""
    trains()
    Path("cat.txt").write_text(TEXT + "Q")
    words = "train --resume runs/ok --inexact --set training.max_steps=4"
    refused(words, "cat.txt", "'Q' (U+0051)", "--on-unknown skip (sample, eval, inspect), or train a new run")


def test_combining_characters_and_emoji() -> None:
    """Code point by code point, neither composed nor taken apart."""
    text = "e\u0301\u00e9 a\u0308\u0323 \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\ufe0f\n" * 30
    Path("given.txt").write_text(text)
    trains("--data", "given.txt")
    trained_on(text)
    prompt = text[:20]
    assert run("sample", "--checkpoint", "runs/ok", "--prompt", prompt, "--length", "5").out.startswith(prompt)


class TestFifo:
    def feed(self, content: bytes) -> None:
        if not Path("pipe").exists():
            os.mkfifo("pipe")
        threading.Thread(target=Path("pipe").write_bytes, args=(content,), daemon=True).start()

    def test_trained_on_and_gone_on_with_when_it_is_gone(self) -> None:
        self.feed(TEXT.encode())
        trains("--data", "pipe")
        trained_on(TEXT)
        Path("pipe").unlink()
        result = run("train", "--resume", "runs/ok", "--set", "training.max_steps=4")
        assert (result.code, "Going on with runs/ok at step 2" in result.err) == (0, True), result.err

    @pytest.mark.parametrize(
        ("content", "says"),
        [(b"", "pipe: the text is empty"), (b"abc", "pipe: the training text has 2"), (b"\xff", "pipe (kept as ")],
    )
    def test_refused(self, content: bytes, says: str) -> None:
        self.feed(content)
        before = sorted(os.listdir())  # noqa: PTH208 - a snapshot would read the pipe
        result = run("train", "--config", "ok.yaml", "--data", "pipe")
        assert (result.code, result.out, result.err.count("error: ")) == (2, "", 1)
        assert says in result.err and ADVICE.search(result.err)
        assert sorted(os.listdir()) == before  # noqa: PTH208


# --- Configs: each is one mistake, on the third line or below, in a config that is good without it.

HEAD = "corpus: {source: cat.txt}\ntraining:\n"
TENFOLD = [f"  a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 9)]


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        pytest.param("  lrr: 1", ("3:3: unknown key 'training.lrr'; did you mean 'lr'?",), id="unknown key"),
        pytest.param("  lr: 1\n  lr: 2", ("4:3: duplicate key 'lr', first given on line 3; give it",), id="duplicate"),
        pytest.param("  lr: fast", ("3:3: training.lr: should be a valid number, not 'fast'",), id="wrong type"),
        pytest.param("  batch_size: 1.5", ("3:3: training.batch_size: should be a valid integer",), id="float as int"),
        pytest.param("  batch_size: true", ("training.batch_size: should be a valid integer, not True",), id="bool"),
        pytest.param("  lr: '1e-3'", ("3:3: training.lr: should be a valid number, not '1e-3'",), id="1e-3 in quotes"),
        pytest.param("  lr: -1e-3", ("3:3: training.lr: should be greater than 0, not -0.001",), id="negative"),
        pytest.param("  batch_size: 0", ("3:3: training.batch_size: should be greater than or",), id="zero"),
        pytest.param("  lr: .nan", ("3:3: training.lr: should be a finite number, not nan",), id="NaN"),
        pytest.param("  lr: .inf", ("3:3: training.lr: should be a finite number, not inf",), id="inf"),
        pytest.param("  lr: 1e400", ("3:3: training.lr: should be a finite number, not inf",), id="overflow"),
        pytest.param("  seed: 9223372036854775808", ("3:3: training.seed: should be less",), id="large integer"),
        pytest.param(
            "  seed: " + "9" * 99, ("3:3: the number is too large; write one below 2**63",), id="huge integer"
        ),
        pytest.param("  lr: 1e300", ("3:3: training.lr: should be less than or equal to 1000",), id="large"),
        pytest.param("  epochs: 1e300", ("3:3: training.epochs: should be less than or equal",), id="epochs"),
        pytest.param("  max_time: 1e300", ("3:3: training.max_time: should be less than or",), id="seconds"),
        pytest.param(
            *("  seq_len: 999999\n  batch_size: 999999", ("needs at least", "GB", "lower training.batch_size")),
            id="a window larger than memory",
        ),
        pytest.param(
            *("model: {hidden_size: 65536, num_layers: 64}", ("34,910", "GB", "weights", "lower model.hidden_size")),
            id="a model larger than memory",
        ),
        pytest.param("  lr: &a 1.0\n  weight_decay: *a", ("4:3: aliases", "write the value out"), id="alias"),
        pytest.param("run: {<<: {name: x}}", ("unknown key 'run.<<'; valid here: out, name",), id="merge"),
        pytest.param("\tlr: 1", ("3:1: not valid YAML: ", r"'\t'", "use spaces to indent"), id="tab"),
        pytest.param("---\nmodel: {}", ("3:1: not valid YAML: ", "another document; put each in a file"), id="several"),
        pytest.param("  lr: [", ("not valid YAML: ", "check indentation, quotes and brackets"), id="unfinished"),
        pytest.param("  seed: !!python/name:os.system x", ("3:3: the tag tag:yaml.org,2002:python/name",), id="tag"),
        pytest.param(
            *("run: !!python/object/apply:os.mkdir [made]", ("3:1: the tag ", "os.mkdir is not supported; leave")),
            id="tag that calls",
        ),
    ],
)
def test_config(mistake: str, says: tuple[str, ...]) -> None:
    """In the section ``training`` where it is indented; else behind it, with the limit in its proper place."""
    inside = f"{HEAD}{mistake}\n  max_steps: 5\n"
    behind = f"corpus: {{source: cat.txt}}\ntraining: {{max_steps: 5}}\n{mistake}\n"
    Path("bad.yaml").write_text(inside if mistake[0].isspace() else behind)
    refused("train --config bad.yaml", *says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", ("bad.yaml: the config is empty", "charrnn config show")),
        ("# a comment\n", ("bad.yaml: the config is empty", "charrnn config show")),
        ("- corpus\n- training\n", ("bad.yaml:1:1: a config is a mapping", "--data")),
        ("x" * 200_000, ("bad.yaml: larger than 100,000 bytes", "--data")),
        ("corpus: \0\n", ("bad.yaml: not valid YAML: ",)),
    ],
    ids=["empty", "only a comment", "a list at the root", "no config at all", "NUL"],
)
def test_whole_config(content: str, says: tuple[str, ...]) -> None:
    Path("bad.yaml").write_text(content)
    refused("train --config bad.yaml", *says)


@pytest.mark.parametrize("written", ["1e-3", "1E-3", "+1.e-3", ".001"])
def test_1e_3_is_a_number(written: str) -> None:
    Path("good.yaml").write_text(f"{HEAD}  max_steps: 5\n  lr: {written}\n")
    result = run("config", "check", "good.yaml")
    assert (result.code, "lr: 0.001\n" in result.out) == (0, True)


@pytest.mark.parametrize("merging", [True, False], ids=["merged", "listed"])
def test_bomb(merging: bool) -> None:
    """100 million values, were they written out; refused once for each place, in a moment."""
    levels = TENFOLD if merging else [level.replace("{<<: ", "").replace("}", "") for level in TENFOLD]
    Path("bad.yaml").write_text(f"{HEAD}  max_steps: 5\nmodel:\n  a0: &a0 {{x: x}}\n{''.join(levels)}")
    before, result = snapshot(), run("train", "--config", "bad.yaml")
    lines = result.err.splitlines()
    assert (result.code, result.out, snapshot()) == (2, "", before)
    assert len(set(lines)) == len(lines) < 30
    assert all(re.match(r"error: bad\.yaml:\d+:\d+: ", line) for line in lines)
    assert any("aliases and deep nesting are not supported; write the value out" in line for line in lines)


@pytest.mark.parametrize(
    "setting",
    [
        *("training.cycles", "training.step_drops", "training.warmup_steps", "run.keep", "run.eval_characters"),
        *("run.log_every", "run.eval_every", "run.save_every", "training.patience", "training.max_rollbacks"),
    ],
)
def test_as_large_as_an_integer_can_be(setting: str) -> None:
    """What costs nothing is allowed, and then works."""
    schedule = {"training.cycles": "triangular2", "training.step_drops": "step"}.get(setting, "linear")
    trains("--set", f"{setting}={2**63 - 1}", "--set", f"training.schedule={schedule}")


@pytest.mark.parametrize("setting", ["training.max_steps=9223372036854775807", "training.epochs=1e9"])
def test_a_dry_run_of_a_training_without_end(setting: str) -> None:
    before = snapshot()
    trains("--dry-run", "--set", "training.max_steps=null", "--set", "training.patience=9", "--set", setting)
    assert snapshot() == before
