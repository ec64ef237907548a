"""Bytes to characters, strictly, a chunk at a time; an error says the file, the byte, the line and what to try."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from charrnn.errors import DataError
from charrnn.text.corpus import Corpus
from charrnn.text.named import Part

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
BYTES_ADVICE = "train a new run on its bytes (corpus.vocabulary: bytes)"


class _PartReader:
    """Decodes one part and remembers where it is, for messages."""

    def __init__(self, part: Part, encoding: str) -> None:
        self.part = part
        self.encoding = encoding
        # A byte order mark belongs to the file, not to the text: the -sig decoder drops it.
        name = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        self.decoder = codecs.getincrementaldecoder(name)("strict")
        self.offset = 0  # bytes given to the decoder so far
        self.line = 1
        self.start = b""

    def decode(self, chunk: bytes, final: bool = False) -> str:
        try:
            return self._decode(chunk, final)
        except UnicodeError as error:  # some codecs do not say where; a missing byte order mark is nowhere
            raise DataError(f"{self.part.name}: not valid {self.encoding}: {error}; {self._advice()}") from error

    def _decode(self, chunk: bytes, final: bool) -> str:
        self.start = self.start or chunk[:4]
        before = self.decoder.getstate()
        try:
            text = self.decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            # Counted from the end, since the -sig decoder counts without the mark that it has dropped.
            bad = len(chunk) - len(error.object) + error.start  # in the chunk; negative: in what was waiting
            self.decoder.setstate(before)
            line = self.line + self.decoder.decode(chunk[: max(bad, 0)]).count("\n")
            place = f"byte {self.offset + bad:,}, line {line:,}"
            cause = f"not valid {self.encoding} at {place} (0x{error.object[error.start]:02x})"
            raise DataError(f"{self.part.name}: {cause}; {self._advice()}") from error
        self.offset += len(chunk)
        self.line += text.count("\n")
        return text

    def _advice(self) -> str:
        begins_like = next((name for mark, name in BYTE_ORDER_MARKS.items() if self.start.startswith(mark)), None)
        name = codecs.lookup(self.encoding).name
        if begins_like == name:
            return f"it is damaged there: restore it, or {BYTES_ADVICE}"
        if begins_like:
            return f"it begins like {begins_like}: set corpus.encoding: {begins_like}"
        if name in BYTE_ORDER_MARKS.values():
            return f"set corpus.encoding: {name}-le or {name}-be"
        return f"set corpus.encoding, for example to latin-1 or cp1252, or {BYTES_ADVICE}"


def decoded(corpus: Corpus, encoding: str, sha256: str | None = None) -> Iterator[str]:
    """The characters of a corpus in pieces of about 1 MiB, every part decoded for itself.

    Raises:
        DataError: a part is not valid in this encoding; or the text does not have the given ``sha256``.
    """
    reader: _PartReader | None = None
    for part, chunk in corpus.chunks(sha256):
        if reader is None or reader.part is not part:
            if reader is not None:
                yield reader.decode(b"", final=True)
            reader = _PartReader(part, encoding)
        yield reader.decode(chunk)
    if reader is not None:
        yield reader.decode(b"", final=True)
