"""Other people's words made fit to be shown to a model: text only, one line, a bounded length.

Articles, questions and criteria are written by strangers. Markup is taken out, and so are the
characters that steer instead of say: controls, bidirectional overrides, zero-width and tag
characters, variation selectors, private and unassigned code points. What remains is data; that it
is treated as data is the business of ``prompts``.
"""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser
from typing import Final

MARKUP_CHARS_MAX: Final = 50_000
"""No more of a marked-up text is looked at, whatever its length."""
OVERSIZE: Final = 8
"""No more than so many times the wanted length is looked at: the rest is cut off anyway."""
SILENT: Final = frozenset({"script", "style", "noscript", "template", "iframe", "svg", "head"})
_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_QUESTION_WORDS: Final = frozenset(
    [
        "a",
        "about",
        "above",
        "after",
        "again",
        "all",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "been",
        "before",
        "below",
        "between",
        "by",
        "can",
        "could",
        "day",
        "days",
        "did",
        "do",
        "does",
        "during",
        "each",
        "end",
        "ever",
        "few",
        "for",
        "from",
        "had",
        "happen",
        "has",
        "have",
        "he",
        "her",
        "his",
        "how",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "least",
        "less",
        "many",
        "market",
        "may",
        "might",
        "month",
        "more",
        "most",
        "much",
        "next",
        "no",
        "not",
        "of",
        "on",
        "once",
        "one",
        "or",
        "other",
        "out",
        "over",
        "own",
        "price",
        "question",
        "reach",
        "resolve",
        "resolves",
        "resolved",
        "same",
        "she",
        "should",
        "so",
        "some",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "total",
        "under",
        "until",
        "up",
        "very",
        "was",
        "week",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "will",
        "with",
        "within",
        "would",
        "year",
        "yes",
        "you",
        "your",
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
    ]
)
_WORD: Final = re.compile(r"[^\W_]+(?:[.'\u2019-][^\W_]+)*")


def plain(text: str, most: int) -> str:
    """At most ``most`` characters on one line, nothing in it that steers; cut at the end."""
    kept = []
    for char in text[: most * OVERSIZE]:
        if char.isspace():
            kept.append(" ")
        elif unicodedata.category(char) not in _STEERING and not _selects_variant(char):
            kept.append(char)
    line = " ".join("".join(kept).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def _selects_variant(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._silent += tag in SILENT
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in SILENT))
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)


def without_markup(text: str) -> str:
    """The words of a piece of HTML; of a plain text, itself."""
    text = text[:MARKUP_CHARS_MAX]
    if "<" not in text and "&" not in text:
        return text
    reader = _Text()
    reader.feed(text)
    reader.close()
    return "".join(reader.parts)


def words(text: str) -> list[str]:
    """The words of a text, folded, in order."""
    return [word.casefold() for word in _WORD.findall(text)]


def news_query(question: str, most: int = 5) -> str:
    """The words of a question to look for in the news: names first, then the longer words.

    News APIs ask for all words at once, so a whole question would find nothing.
    """
    seen: dict[str, tuple[int, int, str]] = {}
    for place, word in enumerate(_WORD.findall(question)):
        folded = word.casefold()
        if folded in _QUESTION_WORDS or len(folded) < 2 or folded in seen:
            continue
        is_number = folded[0].isdigit()
        is_name = word[0].isupper() and not is_number
        rank = 0 if is_name else 2 if is_number else 1
        seen[folded] = (rank, place if rank == 0 else -len(folded), word)
    best = sorted(seen.values(), key=lambda found: found[:2])[:most]
    return " ".join(word for _, _, word in best)


def shared(query: str, text: str) -> float:
    """The share of the query's words that a text has, in [0, 1]; 1 for an empty query."""
    wanted = set(words(query))
    return len(wanted & set(words(text))) / len(wanted) if wanted else 1.0
