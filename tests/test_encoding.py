"""From bytes to ids: against Python's own codecs and a plain dictionary, wherever the chunk borders fall."""

from __future__ import annotations

import codecs
import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from charrnn.config.schema import CorpusConfig
from charrnn.errors import DataError
from charrnn.text.corpus import Corpus, find_corpus
from charrnn.text.encoded import EncodedText, count_characters, encode_corpus, split_spans, unseen_in_training
from charrnn.text.named import Part
from charrnn.text.places import Places
from charrnn.text.reading import decoded
from charrnn.text.vocabulary import OnUnknown, Vocabulary

CHUNKS = (1, 2, 3, 7)
# Emoji with a joiner and a skin tone, combining marks, CRLF, NUL, a lone CR, the last code point, a BOM inside.
ODD = "e\u0301\U0001f469\U0001f3fd\u200d\U0001f52c\r\n\0\r\x85\u2028\U0010ffff a\ufeffb\n\xe9"
repeatable = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])


def memory(*parts: bytes) -> Corpus:
    """A corpus of parts that are in memory."""
    return Corpus("memory", "memory", tuple(Part(f"part-{i}", opener(data)) for i, data in enumerate(parts)))


def opener(data: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(data)


def config(encoding: str = "utf-8", min_count: int = 1, split: list[float] | None = None) -> CorpusConfig:
    return CorpusConfig(source="memory", encoding=encoding, min_count=min_count, split=split or [0.9, 0.1])


def encode(
    *parts: bytes, settings: CorpusConfig | None = None, vocabulary: Vocabulary | None = None, skip: bool = False
) -> EncodedText:
    on_unknown: OnUnknown = "skip" if skip else "error"
    places = Places.from_environment()
    return encode_corpus(memory(*parts), settings or config(), places, vocabulary, on_unknown=on_unknown)


@contextmanager
def small_pieces(chunk: int) -> Iterator[None]:
    """Texts are read in pieces of this many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charrnn.text.corpus.CHUNK_BYTES", chunk)
        yield


def vocabulary_of(text: str) -> Vocabulary:
    return Vocabulary.from_counts(Counter(map(ord, text)))


def files_in_cache(kind: str) -> list[Path]:
    folder = Places.from_environment().cache / kind
    return sorted(folder.iterdir()) if folder.exists() else []


@pytest.fixture(params=CHUNKS)
def small_chunks(request: pytest.FixtureRequest) -> Iterator[None]:
    with small_pieces(request.param):
        yield


class TestVocabulary:
    def test_characters_are_in_order_and_ids_are_places(self) -> None:
        vocabulary = vocabulary_of("hello \U0001f600\n")
        assert vocabulary.characters == "\n ehlo\U0001f600"
        assert vocabulary.ids("hello \U0001f600\n?").tolist() == [3, 2, 4, 4, 5, 1, 6, 0, -1]
        assert len(vocabulary) == 7

    @repeatable
    @given(st.text())
    @example(ODD)
    def test_decode_undoes_encode(self, text: str) -> None:
        vocabulary = vocabulary_of(text)
        assert vocabulary.decode(vocabulary.encode(text).tolist()) == text

    @repeatable
    @given(st.text(alphabet="abcde\0\U0001f600", max_size=30), st.integers(1, 4))
    def test_rare_characters_fold_into_one_unknown(self, text: str, min_count: int) -> None:
        counts = Counter(text)
        known = sorted(c for c in counts if counts[c] >= min_count)
        vocabulary = Vocabulary.from_counts(Counter(map(ord, text)), min_count)
        places = {c: i for i, c in enumerate(known)}
        assert len(vocabulary) == len(known) + (len(known) < len(counts))
        assert vocabulary.encode(text).tolist() == [places.get(c, len(known)) for c in text]
        assert vocabulary.decode(vocabulary.encode(text).tolist()) == "".join(
            c if c in places else "\ufffd" for c in text
        )

    def test_unknown_symbol_takes_characters_never_seen(self) -> None:
        vocabulary = Vocabulary("characters", "ab", has_unknown=True)
        assert vocabulary.encode("abz\U0010ffff").tolist() == [0, 1, 2, 2]
        assert vocabulary.symbol_name(2) == "(unknown)"

    def test_characters_it_lacks_are_refused_by_name(self) -> None:
        with pytest.raises(
            DataError, match=r"3 character\(s\).*'\\x00' \(U\+0000\) '!' \(U\+0021\) '\u00e9' \(U\+00E9"
        ):
            vocabulary_of("abc").encode("a!b\xe9!\0")

    def test_characters_it_lacks_can_be_skipped(self) -> None:
        assert vocabulary_of("abc").encode("a!b\xe9!\0c", "skip").tolist() == [0, 1, 2]

    @pytest.mark.parametrize(("size", "dtype"), [(1, "u1"), (256, "u1"), (257, "u2"), (65536, "u2"), (65537, "u4")])
    def test_smallest_dtype(self, size: int, dtype: str) -> None:
        characters = "".join(map(chr, range(0x10000, 0x10000 + size)))
        assert Vocabulary("characters", characters).dtype == dtype
        assert Vocabulary("characters", characters[1:], has_unknown=True).dtype == dtype
        text = encode(characters[::-1].encode())
        assert text.ids.dtype == dtype
        assert np.array_equal(text.ids, np.arange(size)[::-1])

    @repeatable
    @given(st.text(), st.booleans())
    def test_plain_values_and_back_through_json(self, text: str, has_unknown: bool) -> None:
        vocabulary = Vocabulary("characters", vocabulary_of(text).characters, has_unknown)
        again = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
        assert again == vocabulary
        assert again.digest == vocabulary.digest

    def test_digests_tell_vocabularies_apart(self) -> None:
        kinds = [Vocabulary("bytes"), *(Vocabulary("characters", c, u) for c in ("", "a", "ab") for u in (False, True))]
        assert len({vocabulary.digest for vocabulary in kinds}) == len(kinds)
        assert Vocabulary.from_dict(Vocabulary("bytes").to_dict()) == Vocabulary("bytes")


class TestBytes:
    @repeatable
    @given(st.text())
    @example(ODD)
    def test_ids_are_utf8_and_come_back(self, text: str) -> None:
        vocabulary = Vocabulary("bytes")
        ids = vocabulary.encode(text).tolist()
        assert bytes(ids) == text.encode()
        assert vocabulary.decode(ids) == text

    @repeatable
    @given(st.text())
    @example(ODD)
    def test_single_bytes_give_each_character_when_it_is_complete(self, text: str) -> None:
        feed = Vocabulary("bytes").decoder()
        for character in text:
            *beginning, last = character.encode()
            assert [feed(byte) for byte in beginning] == [""] * len(beginning)
            assert feed(last) == character
        assert feed(None) == ""

    @repeatable
    @given(st.binary())
    def test_invalid_utf8_shows_as_python_replaces_it(self, data: bytes) -> None:
        assert Vocabulary("bytes").decode(data) == data.decode("utf-8", "replace")

    @repeatable
    @given(st.lists(st.binary(), max_size=3))
    def test_a_corpus_in_bytes_is_the_bytes(self, parts: list[bytes]) -> None:
        assume(any(parts))
        data = b"".join(parts)
        text = encode(*parts, settings=CorpusConfig(source="memory", vocabulary="bytes"))
        assert (bytes(text.ids), text.ids.dtype.name, len(text.vocabulary)) == (data, "uint8", 256)


class TestReading:
    """Strict decoding in pieces equals decoding in one go, and so do its errors."""

    @pytest.mark.usefixtures("small_chunks")
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-32", "utf-8-sig", "gb18030", "utf-7"])
    def test_any_encoding_in_small_pieces(self, encoding: str) -> None:
        assert "".join(decoded(memory(ODD.encode(encoding)), encoding)) == ODD

    @pytest.mark.usefixtures("small_chunks")
    def test_every_byte_means_something_in_latin_1(self) -> None:
        assert "".join(decoded(memory(bytes(range(256))), "latin-1")) == "".join(map(chr, range(256)))

    @pytest.mark.usefixtures("small_chunks")
    def test_one_byte_order_mark_per_part_is_dropped(self) -> None:
        parts = [codecs.BOM_UTF8 + "a\ufeff".encode(), b"b", codecs.BOM_UTF8 + codecs.BOM_UTF8 + b"c"]
        assert "".join(decoded(memory(*parts), "utf-8")) == "a\ufeffb\ufeffc"
        assert "".join(decoded(memory(*parts), "UTF8")) == "a\ufeffb\ufeffc"

    @repeatable
    @given(st.binary(max_size=12), st.sampled_from(CHUNKS), st.text(max_size=12))
    @example(b"\n\xe2\x28", 2, "\xe9\n\U0001f600")
    @example(b"\xf0\x9f\x98", 3, "\n\n")  # ends within a character
    def test_the_first_bad_byte(self, bad: bytes, chunk: int, good: str) -> None:
        data = good.encode() + bad
        assume(not data.startswith(codecs.BOM_UTF8))
        self.check_place(data, chunk)

    @pytest.mark.parametrize("chunk", [*CHUNKS, 1 << 20])
    @pytest.mark.parametrize("bad", [b"ab\n\xffcd", b"\xff", b"ab\n\n\xe2\x82"])
    def test_the_first_bad_byte_after_a_byte_order_mark(self, bad: bytes, chunk: int) -> None:
        self.check_place(codecs.BOM_UTF8 + bad, chunk)

    def check_place(self, data: bytes, chunk: int) -> None:
        """Compare with the error that Python has for the whole of ``data``."""
        try:
            expected = data.decode("utf-8")
        except UnicodeDecodeError as error:
            where = (error.start, data[: error.start].count(b"\n") + 1, data[error.start])
            assert place_of_error(data, chunk) == where
        else:
            with small_pieces(chunk):
                assert "".join(decoded(memory(data), "utf-8")) == expected

    def test_lines_of_utf16_are_lines_of_text(self) -> None:
        good = "\u4e0a\n\u4e0a\u010a"  # U+4E0A and U+010A have a byte 0x0A, but only one line ends here
        data = good.encode("utf-16-le") + b"\x00\xdc"
        assert place_of_error(data, 1 << 20, "utf-16-le") == (len(data) - 2, 2, 0)

    def test_large_numbers_are_readable(self) -> None:
        with pytest.raises(DataError, match=r"part-1: not valid utf-8 at byte 12,000, line 6,001 \(0xff\)"):
            list(decoded(memory(b"whole", b"a\n" * 6000 + b"\xff"), "utf-8"))

    def test_a_character_does_not_reach_into_the_next_part(self) -> None:
        with pytest.raises(DataError, match=r"part-0: not valid utf-8 at byte 1, line 1 \(0xc3\)"):
            list(decoded(memory(b"a\xc3", b"\xa9"), "utf-8"))

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
    def test_advice_names_the_encoding_of_a_byte_order_mark(self, encoding: str) -> None:
        with pytest.raises(DataError, match=f"set corpus.encoding: {encoding}"):
            encode("text".encode(encoding))
        assert np.array_equal(encode("ab".encode(encoding), settings=config(encoding)).ids, [0, 1])

    @pytest.mark.parametrize("chunk", [*CHUNKS, 1 << 20])
    @pytest.mark.parametrize("bad", ["", "\ud800"])
    @pytest.mark.parametrize("encoding", ["utf-16", "UTF_32"])
    def test_a_byte_order_mark_that_is_missing(self, encoding: str, bad: str, chunk: int) -> None:
        name = encoding.lower().replace("_", "-")
        data = f"text\n{bad}".encode(f"{name}-le", "surrogatepass")
        says = f"part-0: not valid {encoding}: .*BOM; set corpus.encoding: {name}-le or {name}-be"
        with small_pieces(chunk), pytest.raises(DataError, match=says):
            list(decoded(memory(data), encoding))

    def test_a_codec_that_does_not_say_where(self) -> None:
        with pytest.raises(DataError, match=r"part-0: not valid punycode.+; set corpus\.encoding"):
            list(decoded(memory(b"a-!"), "punycode"))

    def test_advice_for_other_bytes(self) -> None:
        with pytest.raises(DataError, match=r"latin-1 or cp1252, or .*corpus\.vocabulary: bytes"):
            encode(b"caf\xe9")


def place_of_error(data: bytes, chunk: int, encoding: str = "utf-8") -> tuple[int, int, int]:
    """Byte, line and value of the bad byte, as the message has them."""
    with small_pieces(chunk), pytest.raises(DataError) as caught:
        list(decoded(memory(data), encoding))
    match = re.search(r"at byte ([\d,]+), line ([\d,]+) \(0x(..)\)", str(caught.value))
    assert match, caught.value
    return int(match[1].replace(",", "")), int(match[2].replace(",", "")), int(match[3], 16)


class TestEncodeCorpus:
    @repeatable
    @given(st.lists(st.text(max_size=20), min_size=1, max_size=3), st.sampled_from([*CHUNKS, 1 << 20]))
    @example([ODD, "\ufeff" + ODD], 1)
    def test_ids_are_a_plain_dictionary_encoding(self, texts: list[str], chunk: int) -> None:
        whole = "".join(text.removeprefix("\ufeff") for text in texts)
        assume(whole)
        dictionary = {c: i for i, c in enumerate(sorted(set(whole)))}
        with small_pieces(chunk):
            text = encode(*(text.encode() for text in texts))
        assert text.ids.tolist() == [dictionary[c] for c in whole]
        assert text.vocabulary.characters == "".join(dictionary)
        assert text.vocabulary.decode(text.ids.tolist()) == whole

    @repeatable
    @given(st.text(), st.sampled_from(CHUNKS))
    def test_characters_are_counted(self, text: str, chunk: int) -> None:
        with small_pieces(chunk):
            counts = count_characters(memory(b"", text.encode("utf-16"), "a".encode("utf-16")), "utf-16")
        assert counts == {ord(c): n for c, n in Counter(text + "a").items()}
        assert list(counts) == sorted(counts)

    def test_min_count_is_over_the_whole_text(self) -> None:
        text = encode(b"aab", b"b!", settings=config(min_count=2))
        assert text.vocabulary == Vocabulary("characters", "ab", has_unknown=True)
        assert text.ids.tolist() == [0, 0, 1, 1, 2]

    def test_a_given_vocabulary(self) -> None:
        vocabulary = Vocabulary("characters", "\nabc")
        assert encode(b"cab", vocabulary=vocabulary).ids.tolist() == [3, 1, 2]
        assert encode(b"c!ab?", vocabulary=vocabulary, skip=True).ids.tolist() == [3, 1, 2]
        with pytest.raises(DataError, match=r"does not know: '!' \(U\+0021\)"):
            encode(b"c!ab", vocabulary=vocabulary)

    def test_which_text_it_was(self) -> None:
        file = Path("text.txt")
        file.write_bytes(b"\xef\xbb\xbfabc\xc3\xa9")
        corpus = find_corpus(CorpusConfig(source="text.txt"), Places.from_environment())
        assert encode_corpus(corpus, config(), Places.from_environment()).describe() == {
            "name": "text.txt",
            "source": str(file.absolute()),
            "bytes": 8,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "characters": 4,
        }

    @pytest.mark.parametrize("parts", [(b"",), (), (b"", b""), (codecs.BOM_UTF8,)])
    def test_an_empty_text_is_refused(self, parts: tuple[bytes, ...]) -> None:
        with pytest.raises(DataError, match="empty"):
            encode(*parts)

    def test_ids_are_mapped_and_cannot_be_changed(self) -> None:
        text = encode(b"some text of some length")
        assert isinstance(text.ids, np.memmap)
        for view in (text.ids, text.train_ids):
            with pytest.raises(ValueError, match="read-only"):
                view[0] = 1


class TestCache:
    def test_the_second_time_nothing_is_decoded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = encode(ODD.encode())
        monkeypatch.setattr("charrnn.text.encoded.decoded", lambda *_: pytest.fail("the text was decoded again"))
        second = encode(ODD.encode())
        assert np.array_equal(first.ids, second.ids)
        assert first.vocabulary == second.vocabulary
        encode(ODD.encode(), settings=config(split=[0.5, 0.5]))
        with pytest.raises(pytest.fail.Exception):
            encode(ODD.encode() + b"!")

    def test_content_encoding_and_vocabulary_are_kept_apart(self) -> None:
        data = "ab\xe9ba\xe9".encode()
        bytewise = CorpusConfig(source="memory", vocabulary="bytes")
        both = Vocabulary("characters", "ab\xa9\xc3\xe9")
        for _ in range(2):
            assert encode(data).ids.tolist() == [0, 1, 2, 1, 0, 2]
            assert encode(data[::-1], settings=config("latin-1")).ids.tolist() == [2, 3, 0, 1, 2, 3, 1, 0]
            assert encode(data, settings=config("latin-1")).ids.tolist() == [0, 1, 3, 2, 1, 0, 3, 2]
            assert encode(data + b"a", settings=config("cp1252", min_count=3)).ids.tolist() == [0, *[1] * 4, 0, 1, 1, 0]
            assert encode(data, vocabulary=Vocabulary("characters", "\nab\xe9")).ids.tolist() == [1, 2, 3, 2, 1, 3]
            assert encode(data, vocabulary=both).ids.tolist() == [0, 1, 4, 1, 0, 4]
            assert encode(data, settings=config("latin-1"), vocabulary=both).ids.tolist() == [0, 1, 3, 2, 1, 0, 3, 2]
            assert encode(data, settings=bytewise).ids.tolist() == list(data)

    def test_where_parts_begin_is_kept_apart(self) -> None:
        """The same bytes are another text where a byte order mark begins a part."""
        two = codecs.BOM_UTF8 + b"a", codecs.BOM_UTF8 + b"b"
        for _ in range(2):
            for parts, text in ((two, "ab"), ((b"".join(two),), "a\ufeffb"), ((two[0] + b"\xef", two[1][1:]), None)):
                if text is None:
                    with pytest.raises(DataError, match="part-0: not valid utf-8"):
                        encode(*parts)
                else:
                    encoded = encode(*parts)
                    assert encoded.vocabulary.decode(encoded.ids.tolist()) == text

    def test_an_empty_part_makes_no_other_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        encode(b"abc")
        monkeypatch.setattr("charrnn.text.encoded.decoded", lambda *_: pytest.fail("the text was decoded again"))
        encode(b"", b"abc", b"")

    @pytest.mark.parametrize("content", [b"", b'{"97": 2, "9', b"[]", b'{"a": 1}', b"\xff"])
    def test_a_damaged_survey_is_made_anew(self, content: bytes) -> None:
        encode(b"abac")
        (survey,) = files_in_cache("surveys")
        whole = survey.read_bytes()
        survey.write_bytes(content)
        assert encode(b"abac").vocabulary.characters == "abc"
        assert survey.read_bytes() == whole

    @pytest.mark.parametrize("kind", ["own", "given", "skipping", "bytes", "wide"])
    @pytest.mark.parametrize("cut", [0, 5, -1])
    def test_ids_that_were_cut_off_are_made_anew(self, kind: str, cut: int) -> None:
        def ids() -> list[Any]:
            vocabulary = None
            if kind in ("given", "skipping"):
                vocabulary = Vocabulary("characters", "abc\u4e0a" if kind == "given" else "bc")
            if kind == "wide":
                vocabulary = Vocabulary("characters", "abc" + "".join(map(chr, range(0x4E00, 0x4F00))))
            wanted = CorpusConfig(source="memory", vocabulary="bytes" if kind == "bytes" else "characters")
            data = "abacbcb\u4e0a".encode()
            return list(encode(data, settings=wanted, vocabulary=vocabulary, skip=kind == "skipping").ids)

        first = ids()
        (file,) = files_in_cache("encoded")
        file.write_bytes(file.read_bytes()[:cut])
        assert ids() == first

    @pytest.mark.parametrize("kind", ["characters", "bytes"])
    @pytest.mark.parametrize("place", [0, 3, -1])
    def test_ids_that_were_damaged_are_made_anew(self, kind: str, place: int) -> None:
        wanted = CorpusConfig(source="memory", vocabulary="bytes" if kind == "bytes" else "characters")
        first = encode(b"abacb", settings=wanted).ids.tolist()
        (file,) = files_in_cache("encoded")
        damaged = bytearray(whole := file.read_bytes())
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert encode(b"abacb", settings=wanted).ids.tolist() == first
        assert file.read_bytes() == whole

    @pytest.mark.parametrize("kind", ["encoded", "surveys"])
    def test_what_an_older_version_cached_of_the_same_text_goes(
        self, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("charrnn.text.encoded.CACHE_VERSION", 1)
        encode(b"abacb")
        encode(b"another text")
        older = set(files_in_cache(kind))
        monkeypatch.setattr("charrnn.text.encoded.CACHE_VERSION", 2)
        encode(b"abacb")
        assert len(older - set(files_in_cache(kind))) == 1
        assert len(files_in_cache(kind)) == 2

    @pytest.mark.parametrize("kind", ["encoded", "surveys"])
    def test_a_file_of_the_cache_in_the_place_of_another_is_not_taken(self, kind: str) -> None:
        texts = b"aabcb", b"ABCCA"
        for text in texts:
            encode(text)
        one, other = files_in_cache(kind)
        assert one.stat().st_size == other.stat().st_size
        one.rename("one")
        other.rename(one)
        Path("one").rename(other)
        for text in texts:
            encoded = encode(text)
            assert encoded.vocabulary.decode(encoded.ids.tolist()).encode() == text

    def test_skipping_does_not_hide_unknown_characters_later(self) -> None:
        vocabulary = Vocabulary("characters", "ab")
        assert encode(b"abc", vocabulary=vocabulary, skip=True).ids.tolist() == [0, 1]
        with pytest.raises(DataError, match="does not know"):
            encode(b"abc", vocabulary=vocabulary)

    @pytest.mark.usefixtures("small_chunks")
    @pytest.mark.parametrize("vocabulary", [None, Vocabulary("characters", "ab")])
    def test_a_text_that_cannot_be_encoded_leaves_nothing(self, vocabulary: Vocabulary | None) -> None:
        with pytest.raises(DataError):
            encode(b"abababab\xff", vocabulary=vocabulary)
        assert files_in_cache("encoded") == files_in_cache("surveys") == []

    @pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
    @pytest.mark.parametrize("vocabulary", [None, Vocabulary("characters", "ab")])
    def test_an_encoding_that_is_broken_off_leaves_nothing(
        self, failure: BaseException, vocabulary: Vocabulary | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> Iterator[str]:
            yield "ab"
            raise failure

        monkeypatch.setattr("charrnn.text.encoded.decoded", broken)
        with pytest.raises((KeyboardInterrupt, DataError, OSError)):
            encode(b"abab", vocabulary=vocabulary)
        assert files_in_cache("encoded") == files_in_cache("surveys") == []

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("CHARRNN_CACHE", str(tmp_path / "file"))
        with pytest.raises(DataError, match=r"cannot write the cache: .*; point CHARRNN_CACHE elsewhere"):
            encode(b"abab")


class TestTextThatChanges:
    """A file may be written to while it is read: then it is refused, and no later reading suffers from it."""

    OLD, SAME_LETTERS, OTHER_LETTERS = b"abcabc", b"ccbbaa", b"xyzabc"

    def changing(self, versions: list[bytes]) -> Corpus:
        """A corpus that has another version each time it is opened; the last one stays."""
        left = iter(versions)
        return Corpus("memory", "memory", (Part("part", lambda: io.BytesIO(next(left, versions[-1]))),))

    @pytest.mark.parametrize("new", [SAME_LETTERS, OTHER_LETTERS])
    @pytest.mark.parametrize("readings_before", [1, 2])
    def test_refused(self, new: bytes, readings_before: int) -> None:
        corpus = self.changing([self.OLD] * readings_before + [new])
        with pytest.raises(DataError):
            encode_corpus(corpus, config(), Places.from_environment())
        assert files_in_cache("encoded") == []

    def test_the_message_says_so(self) -> None:
        corpus = self.changing([self.OLD, self.OLD, self.SAME_LETTERS])
        with pytest.raises(DataError, match="memory: the text changed while it was being read; try again"):
            encode_corpus(corpus, config(), Places.from_environment())

    @pytest.mark.parametrize("new", [SAME_LETTERS, OTHER_LETTERS], ids=["same letters", "other letters"])
    @pytest.mark.parametrize("order", ["ABBB", "AABB", "AAAB", "AABA", "ABBA"])
    def test_no_wrong_ids_come_of_it(self, order: str, new: bytes) -> None:
        versions = {"A": self.OLD, "B": new}
        with suppress(DataError):
            text = encode_corpus(self.changing([versions[v] for v in order]), config(), Places.from_environment())
            self.check_is(text, versions[order[0]])
        for version in versions.values():
            self.check_is(encode(version), version)

    def check_is(self, text: EncodedText, version: bytes) -> None:
        assert text.sha256 == hashlib.sha256(version).hexdigest()
        assert text.vocabulary == vocabulary_of(version.decode())
        assert text.vocabulary.decode(text.ids.tolist()) == version.decode()


class TestSplits:
    def test_nanogpt_s_split_of_tiny_shakespeare(self) -> None:
        assert split_spans(1_115_394, [0.9, 0.1]) == {"train": (0, 1_003_854), "val": (1_003_854, 1_115_394)}

    @repeatable
    @given(st.integers(0, 1_000_000), st.integers(1, 98), st.integers(1, 98))
    @example(100, 29, 1)  # 100 * 0.29 is 28.999999999999996
    def test_hundredths_are_exact(self, length: int, train: int, val: int) -> None:
        assume(train + val < 100)
        cuts = [0, length * train // 100, length * (train + val) // 100, length]
        spans = split_spans(length, [train / 100, val / 100, (100 - train - val) / 100])
        assert spans == dict(zip(("train", "val", "test"), itertools.pairwise(cuts), strict=True))

    @repeatable
    @given(st.integers(0, 10_000), st.lists(st.floats(0.01, 1), min_size=2, max_size=3))
    def test_any_shares_make_a_partition(self, length: int, weights: list[float]) -> None:
        shares = [weight / sum(weights) for weight in weights]
        spans = split_spans(length, shares)
        assert list(spans) == ["train", "val", "test"][: len(shares)]
        assert [i for start, end in spans.values() for i in range(start, end)] == list(range(length))
        assert all(abs(b - a - length * s) < 1 + 1e-6 for (a, b), s in zip(spans.values(), shares, strict=True))

    def test_of_an_encoded_text(self) -> None:
        data = bytes(range(97, 97 + 20))
        two, three = encode(data), encode(data, settings=config(split=[0.5, 0.25, 0.25]))
        assert two.spans == {"train": (0, 18), "val": (18, 20)}
        assert three.spans == {"train": (0, 10), "val": (10, 15), "test": (15, 20)}
        assert three.train_ids.tolist() == list(range(10))
        assert len(three) == 20

    @repeatable
    @given(st.text(alphabet="abcdef", min_size=1, max_size=40), st.sampled_from([[0.5, 0.5], [0.5, 0.2, 0.3]]))
    def test_characters_that_training_never_sees(self, text: str, split: list[float]) -> None:
        encoded = encode(text.encode(), settings=config(split=split))
        half = len(text) // 2
        expected = Counter(c for c in text[half:] if c not in text[:half])
        assert {encoded.vocabulary.characters[i]: n for i, n in unseen_in_training(encoded).items()} == expected
