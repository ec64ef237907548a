"""Where a text comes from: every source gives exactly the bytes it stands for, and can be found again."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import sysconfig
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from charrnn.config.library import shipped
from charrnn.config.schema import CorpusConfig
from charrnn.errors import CorpusUnavailable, DataError, UsageError
from charrnn.text.corpus import Corpus, find_corpus, settled
from charrnn.text.named import COUNTING_CHARACTERS, NAMED, PYTHON_LEFT_OUT, SHAKESPEARE_FILE, local_shakespeare
from charrnn.text.places import Places
from tests.conftest import make_config

POEM = b"Shall I compare thee\nto a made-up poem?\n"
PERSONS = (
    "DUCHESS|EMERIC|THOLE|OSMUND|TAMSIN|WICK|GULL|HESPER|RUY|LISSOM|JOAN|MAG|CAPTAIN|HERALD|MESSENGER|SERVANT|NOVICE|"
    "BOY|TIDE|ALL|(FIRST|SECOND|THIRD) (SAILOR|CITIZEN)"
)


def find(source: str | list[str], glob: str = "**/*.txt", fallback: str | None = None) -> Corpus:
    return find_corpus(CorpusConfig(source=source, glob=glob, fallback=fallback), Places.from_environment())


def read(corpus: Corpus) -> bytes:
    return b"".join(chunk for _, chunk in corpus.chunks())


def write(path: str, content: bytes) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def names(corpus: Corpus) -> list[str]:
    """The parts' paths, relative to the test's folder."""
    return [Path(part.name).relative_to(Path.cwd()).as_posix() for part in corpus.parts]


class TestFiles:
    def test_a_file_is_read_as_it_is(self) -> None:
        content = b"\xef\xbb\xbfa\r\n\x00\xff no newline at the end"
        write("one.txt", content)
        assert read(find("one.txt")) == content

    def test_source_finds_a_file_from_another_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write("one.txt", POEM)
        corpus = find("one.txt")
        Path("elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        assert read(find(corpus.source)) == POEM

    def test_digest_is_sha256_of_all_parts(self) -> None:
        write("a.txt", b"first ")
        write("b.txt", b"second")
        expected = hashlib.sha256(b"first second").hexdigest()
        assert find(["a.txt", "b.txt"]).digest() == (expected, [6, 6])

    @pytest.mark.parametrize("size", [1, 2, 3, 7])
    def test_chunks_are_no_longer_than_the_limit(self, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("charrnn.text.corpus.CHUNK_BYTES", size)
        write("one.txt", POEM)
        chunks = [chunk for _, chunk in find("one.txt").chunks()]
        assert b"".join(chunks) == POEM
        assert max(map(len, chunks)) == size

    def test_a_list_is_joined_in_its_order_and_free_of_doubles(self) -> None:
        write("b.txt", b"1")
        write("a.txt", b"4")
        write("folder/d.txt", b"3")
        write("folder/c.txt", b"2")
        corpus = find(["b.txt", "folder", "a.txt", "b.txt", "folder/d.txt"])
        assert read(corpus) == b"1234"
        assert names(corpus) == ["b.txt", "folder/c.txt", "folder/d.txt", "a.txt"]
        assert read(find(corpus.source)) == b"1234"

    def test_a_folder_in_a_list_stays_a_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Or a config, which is limited in size, would name every file of it."""
        write("many/a.txt", b"1")
        write("many/b.txt", b"2")
        write("c.txt", b"3")
        corpus = find(["c.txt", "many"])
        assert corpus.source == [str(Path("c.txt").absolute()), str(Path("many").absolute())]
        monkeypatch.chdir("many")
        assert read(find(corpus.source)) == b"312"

    def test_one_file_given_twice_is_one(self) -> None:
        write("one.txt", POEM)
        corpus = find(["one.txt", "./one.txt"])
        assert (corpus.name, corpus.source) == ("one.txt", str(Path("one.txt").absolute()))

    def test_a_name_in_a_list(self) -> None:
        write("one.txt", POEM)
        with pytest.raises(
            DataError, match=r"counting: a named corpus stands alone, .*; set corpus\.source: counting, "
        ):
            find(["counting", "one.txt"])
        write("counting", b"a file")
        assert read(find(["counting", "one.txt"])) == b"a file" + POEM

    def test_a_named_corpus_wins_over_a_file_and_the_path_over_the_name(self) -> None:
        write("counting", POEM)
        assert read(find("counting")) != POEM
        corpus = find("./counting")
        assert read(corpus) == read(find(corpus.source)) == POEM

    def test_missing_file(self) -> None:
        with pytest.raises(DataError, match=r"nowhere\.txt: cannot read the text: No such file.*shakespeare"):
            find("nowhere.txt")

    def test_file_that_vanishes_before_it_is_read(self) -> None:
        file = write("one.txt", POEM)
        corpus = find("one.txt")
        file.unlink()
        with pytest.raises(DataError, match=r"one\.txt: cannot read the text: No such file"):
            read(corpus)

    def test_a_device_is_refused(self) -> None:
        with pytest.raises(DataError, match="/dev/null: is a device"):
            find("/dev/null")


class TestFolders:
    @pytest.fixture(autouse=True)
    def folder(self) -> None:
        write("books/z.txt", b"z")
        write("books/a/2.txt", b"2")
        write("books/a/10.txt", b"10")
        write("books/a-b.txt", b"-")
        write("books/notes.md", b"note")
        Path("books/folder.txt").mkdir()

    def test_files_in_the_order_of_their_paths(self) -> None:
        corpus = find("books")
        assert names(corpus) == ["books/a/10.txt", "books/a/2.txt", "books/a-b.txt", "books/z.txt"]
        assert read(corpus) == b"102-z"
        assert corpus.name == "books"

    def test_glob(self) -> None:
        assert read(find("books", glob="**/*.md")) == b"note"
        assert read(find("books", glob="*.txt")) == b"-z"
        assert read(find("books", glob="a/*")) == b"102"

    def test_a_folder_and_its_only_file_are_one_text(self) -> None:
        Path("books/a-b.txt").unlink()
        corpus = find(["books", "books/z.txt"], glob="*.txt")
        assert (corpus.name, read(corpus)) == ("z.txt", b"z")

    def test_source_finds_the_folder_from_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        corpus = find("books", glob="*.txt")
        monkeypatch.chdir("books")
        assert read(find(corpus.source, glob="*.txt")) == b"-z"

    def test_this_folder_has_a_name_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir("books")
        assert find(".").name == "books"

    def test_nothing_matches(self) -> None:
        with pytest.raises(DataError, match=r"books: no file matches '\*\.tex'; set corpus\.glob"):
            find("books", glob="*.tex")

    @pytest.mark.parametrize("hidden", [".git", "a/.cache/deep"])
    def test_without_hidden_folders(self, hidden: str) -> None:
        write(f"books/{hidden}/x.txt", b"!")
        assert read(find("books")) == b"102-z"

    def test_a_hidden_folder_can_be_given(self) -> None:
        write(".texts/inner/x.txt", b"x")
        assert read(find(".texts")) == b"x"

    @pytest.mark.parametrize("beside", ["metrics.jsonl", "checkpoints/last.safetensors"])
    def test_without_run_folders(self, beside: str) -> None:
        write("books/runs/one/config.yaml", b"")
        write(f"books/runs/one/{beside}", b"")
        write("books/runs/one/samples.txt", b"!")
        write("books/runs/one/deeper/notes.txt", b"!")
        assert read(find("books")) == b"102-z"
        assert read(find("books/runs/one")) == b"!!"  # asked for

    @pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
    def test_a_folder_with_one_of_a_run_s_files_is_none(self, name: str) -> None:
        write(f"books/runs/{name}", b"")
        write("books/runs/samples.txt", b"s")
        assert read(find("books")) == b"102-sz"

    def test_nothing_but_what_is_left_out(self) -> None:
        write("other/.git/x.txt", b"!")
        with pytest.raises(
            DataError, match=r"no file matches '\*\*/\*.txt' outside hidden folders and run folders; set"
        ):
            find("other")

    @pytest.mark.parametrize("glob", ["", "/etc/*.txt"])
    def test_impossible_globs_are_errors_of_the_user(self, glob: str) -> None:
        with pytest.raises(UsageError, match="glob"):
            find_corpus(make_config("books", f'corpus.glob="{glob}"').corpus, Places.from_environment())


class TestReadOnce:
    """Standard input and FIFOs are kept under their hash, so that a run can be resumed from them."""

    CONTENT = "caf\N{LATIN SMALL LETTER E WITH ACUTE}\r\n\0".encode() * 1000

    def feed_stdin(self, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    def feed_fifo(self, content: bytes) -> threading.Thread:
        os.mkfifo("pipe")
        writer = threading.Thread(target=Path("pipe").write_bytes, args=(content,), daemon=True)
        writer.start()
        return writer

    def check_kept(self, corpus: Corpus, places: Places) -> None:
        kept = places.cache / "stdin" / f"{hashlib.sha256(self.CONTENT).hexdigest()[:16]}.txt"
        assert list(kept.parent.iterdir()) == [kept]
        assert corpus.source == str(kept.absolute())
        assert read(corpus) == read(corpus) == read(find(corpus.source)) == self.CONTENT

    @pytest.mark.parametrize("chunk", [7, 1 << 20])
    def test_stdin(self, chunk: int, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("charrnn.text.corpus.CHUNK_BYTES", chunk)
        self.feed_stdin(monkeypatch, self.CONTENT)
        self.check_kept(find("-"), places)

    def test_a_file_behind_a_number(self, places: Places) -> None:
        """As ``--data /dev/stdin < file``: tomorrow that is another file, or none."""
        Path("a.txt").write_bytes(self.CONTENT)
        with Path("a.txt").open() as file:
            corpus = find_corpus(CorpusConfig(source=f"/dev/fd/{file.fileno()}"), places)
        assert b"".join(chunk for _, chunk in corpus.chunks()) == self.CONTENT
        assert str(corpus.source).startswith(str(places.cache))

    def test_fifo(self, places: Places) -> None:
        writer = self.feed_fifo(self.CONTENT)
        corpus = find("pipe")
        writer.join(10)  # it waits for ever where nobody reads
        self.check_kept(corpus, places)

    def test_a_pipe_of_the_shell_has_no_name(self, places: Places) -> None:
        """As ``--data <(zcat my.gz)``."""
        reading, writing = os.pipe()
        os.write(writing, POEM)
        os.close(writing)
        corpus = find_corpus(CorpusConfig(source=f"/dev/fd/{reading}"), places)
        os.close(reading)
        assert (corpus.name, read(corpus)) == ("piped text", POEM)

    def test_stdin_beside_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write("one.txt", POEM)
        self.feed_stdin(monkeypatch, self.CONTENT)
        corpus = find(["-", "one.txt"])
        called = [re.sub(r"standard input \(kept as (.+)\)", r"\1", part.name) for part in corpus.parts]
        assert called == corpus.source
        assert read(corpus) == read(find(corpus.source))
        assert sorted(Path(name).read_bytes() for name in called) == sorted([POEM, self.CONTENT])

    def test_a_relative_cache_is_found_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHARRNN_CACHE", "here")
        self.feed_stdin(monkeypatch, self.CONTENT)
        source = find("-").source
        Path("elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        assert read(find(source)) == self.CONTENT

    def test_an_interrupted_read_leaves_nothing(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        class Broken(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise KeyboardInterrupt

        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Broken()))
        with pytest.raises(KeyboardInterrupt):
            find("-")
        assert list((places.cache / "stdin").iterdir()) == []

    def test_others_may_read_what_the_umask_lets_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.feed_stdin(monkeypatch, self.CONTENT)
        before = os.umask(0o027)
        try:
            source = find("-").source
        finally:
            os.umask(before)
        assert isinstance(source, str)
        assert Path(source).stat().st_mode & 0o777 == 0o640

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHARRNN_CACHE", str(write(str(tmp_path / "file"), b"")))
        self.feed_stdin(monkeypatch, self.CONTENT)
        with pytest.raises(DataError, match="cannot write the cache"):
            find("-")


class Downloader:
    """Stands in for pooch's HTTP downloader: hands out ``content``, or fails as if there were no network."""

    def __init__(self, content: bytes | None) -> None:
        self.content = content
        self.calls = 0

    def __call__(self, url: str, output_file: str, *_: object) -> None:
        self.calls += 1
        if self.content is None:
            raise requests.ConnectionError
        Path(output_file).write_bytes(self.content)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Downloader:
        monkeypatch.setattr("pooch.HTTPDownloader", lambda **_: self)
        return self


class TestShakespeare:
    @pytest.fixture(autouse=True)
    def poem_is_shakespeare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A small text takes the part of the real one, so that no checkout's data/ can interfere."""
        monkeypatch.setattr("charrnn.text.named.SHAKESPEARE_SHA256", hashlib.sha256(POEM).hexdigest())

    @pytest.fixture(autouse=True)
    def network(self, monkeypatch: pytest.MonkeyPatch) -> Downloader:
        """No test reaches the network; a download is refused unless the test says otherwise."""
        return Downloader(None).install(monkeypatch)

    def test_found_in_data(self) -> None:
        write(f"data/{SHAKESPEARE_FILE}", POEM)
        corpus = find("shakespeare")
        assert read(corpus) == POEM
        assert (corpus.name, corpus.source, corpus.notes) == ("shakespeare", "shakespeare", ())

    def test_found_in_charrnn_data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(str(tmp_path / "texts" / SHAKESPEARE_FILE), POEM)
        monkeypatch.setenv("CHARRNN_DATA", str(tmp_path / "texts"))
        assert read(find("shakespeare")) == POEM

    def test_found_in_the_cache(self, places: Places) -> None:
        write(str(places.cache / SHAKESPEARE_FILE), POEM)
        assert read(find("shakespeare")) == POEM
        assert local_shakespeare(places) == places.cache / SHAKESPEARE_FILE

    def test_wrong_content_is_passed_over(self, places: Places) -> None:
        write(f"data/{SHAKESPEARE_FILE}", POEM + b"!")
        write(str(places.cache / SHAKESPEARE_FILE), POEM)
        assert read(find("shakespeare")) == POEM

    def test_wrong_content_alone_is_not_taken(self) -> None:
        path = write(f"data/{SHAKESPEARE_FILE}", POEM + b"!")
        with pytest.raises(CorpusUnavailable, match=rf"download failed.*, and {path} is not it \(wrong SHA-256"):
            find("shakespeare")

    def test_downloaded_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network = Downloader(POEM).install(monkeypatch)
        assert read(find("shakespeare")) == read(find("shakespeare")) == POEM
        assert network.calls == 1

    def test_others_may_read_the_download(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        Downloader(POEM).install(monkeypatch)
        before = os.umask(0o027)
        try:
            find("shakespeare")
        finally:
            os.umask(before)
        assert (places.cache / SHAKESPEARE_FILE).stat().st_mode & 0o777 == 0o640

    def test_a_copy_that_may_not_be_read_is_passed_over(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        unreadable = write(f"data/{SHAKESPEARE_FILE}", POEM)
        write(str(places.cache / SHAKESPEARE_FILE), POEM)
        monkeypatch.setattr(os, "access", lambda path, _: Path(path) != unreadable)  # root may read all
        assert local_shakespeare(places) == places.cache / SHAKESPEARE_FILE

    def test_a_damaged_copy_in_the_cache_is_replaced(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        write(str(places.cache / SHAKESPEARE_FILE), b"half a po")
        Downloader(POEM).install(monkeypatch)
        assert read(find("shakespeare")) == POEM

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def retrieve(*_: object, **__: object) -> str:
            raise requests.ConnectionError("no route to host")

        monkeypatch.setattr("pooch.retrieve", retrieve)
        with pytest.raises(CorpusUnavailable, match=r"shakespeare: the download failed.*CHARRNN_DATA"):
            find("shakespeare")

    def test_download_of_wrong_content(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        network = Downloader(b"<html>please log in</html>").install(monkeypatch)
        with pytest.raises(CorpusUnavailable, match="wrong SHA-256"):
            find("shakespeare")
        assert network.calls == 1
        assert not any(path.is_file() for path in places.cache.rglob("*"))

    def test_cache_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHARRNN_CACHE", str(write(str(tmp_path / "file"), b"")))
        with pytest.raises(CorpusUnavailable, match="cannot be kept in"):
            find("shakespeare")

    def test_fallback(self) -> None:
        corpus = find("shakespeare", fallback="play")
        assert read(corpus) == (shipped("data") / "play.txt").read_bytes()
        assert (corpus.name, corpus.source) == ("play", "play")
        (note,) = corpus.notes
        assert "download failed" in note
        assert "USING THE FALLBACK CORPUS 'play'" in note

    def test_no_fallback_where_none_is_needed(self) -> None:
        write(f"data/{SHAKESPEARE_FILE}", POEM)
        corpus = find("shakespeare", fallback="play")
        assert (read(corpus), corpus.notes) == (POEM, ())

    def test_a_missing_file_does_not_fall_back(self) -> None:
        with pytest.raises(DataError):
            find("nowhere.txt", fallback="play")


class TestOtherNamedCorpora:
    def test_counting(self) -> None:
        text = read(find("counting"))
        assert text == b"".join(b"1 2 3 "[i % 6 : i % 6 + 1] for i in range(COUNTING_CHARACTERS))
        assert len(text) == 60_000

    def test_the_play_is_the_shipped_one(self) -> None:
        write("data/play.txt", POEM)
        assert read(find("play")) == (shipped("data") / "play.txt").read_bytes()

    def test_python_is_the_standard_library_in_order(self) -> None:
        files = [Path(part.name) for part in find("python").parts]
        assert files == sorted(files)
        assert len(files) > 100
        assert {"argparse.py", "this.py"} <= {file.name for file in files}
        root = Path(sysconfig.get_path("stdlib"))
        assert not any(set(file.relative_to(root).parts) & PYTHON_LEFT_OUT for file in files)

    def test_python_is_utf8(self) -> None:
        assert sum(len(Path(part.name).read_bytes().decode()) for part in find("python").parts) > 1_000_000

    @pytest.mark.parametrize("name", sorted(set(NAMED) - {"shakespeare"}))
    def test_source_is_the_name(self, name: str) -> None:
        corpus = find(name)
        assert (corpus.name, corpus.source) == (name, name)


class TestSettled:
    """What a run's config says about its text."""

    CONFIG = CorpusConfig(source="cat.txt", glob="*.md")

    @pytest.mark.parametrize("source", ["/a/caf\u00e9.txt", [f"/texts/{n:01000}.txt" for n in range(50)]])
    def test_what_a_config_can_hold(self, source: str | list[str]) -> None:
        assert settled(self.CONFIG, source) == CorpusConfig(source=source, glob="*.md")

    @pytest.mark.parametrize("source", ["/caf\udce9/a.txt", ["/a.txt", "/caf\udce9/a.txt"]])
    def test_a_path_that_is_not_utf8(self, source: str | list[str]) -> None:
        with pytest.raises(DataError, match=r"'/caf\\udce9/a\.txt': this path is not UTF-8.*; give the text"):
            settled(self.CONFIG, source)

    def test_more_paths_than_a_config_can_hold(self) -> None:
        many = [f"/texts/{n:01000}.txt" for n in range(100)]
        with pytest.raises(DataError, match=r"corpus\.source: 100 paths are more than a config can hold; give"):
            settled(self.CONFIG, many)


class TestPlay:
    @pytest.fixture
    def lines(self) -> list[str]:
        return read(find("play")).decode("ascii").split("\n")

    def test_size_and_lines(self, lines: list[str]) -> None:
        assert sum(map(len, lines)) + len(lines) - 1 >= 100_000
        assert max(map(len, lines)) <= 78
        assert not any(line != line.rstrip() or "\t" in line for line in lines)

    def test_five_acts_in_order_each_with_scenes_in_order(self, lines: list[str]) -> None:
        numerals = ["I", "II", "III", "IV", "V"]
        headings = [line for line in lines if re.match(r"(ACT|SCENE) ", line)]
        acts = [line.removeprefix("ACT ") for line in headings if line.startswith("ACT")]
        assert acts == numerals
        for scenes in " ".join(re.sub(r"SCENE (\w+)\..*", r"\1", h) for h in headings).split("ACT ")[1:]:
            _, *order = scenes.split()
            assert order == numerals[: len(order)]
            assert order

    def test_every_speaker_is_a_person_of_the_play(self, lines: list[str]) -> None:
        speakers = {match[1] for line in lines if (match := re.fullmatch(r"([A-Z ]+):", line))}
        assert len(speakers) > 15
        assert [speaker for speaker in speakers if not re.fullmatch(PERSONS, speaker)] == []

    def test_a_speaker_stands_after_an_empty_line_and_says_something(self, lines: list[str]) -> None:
        for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
            if re.fullmatch(r"[A-Z ]+:", line):
                assert (before, bool(after)) == ("", True), line
