r"""Text that is safe to print on a terminal of any encoding.

Control characters, escape sequences, characters that change the text direction, and surrogates are escaped as in
Python, ``\x1b``. A character that the encoding of a console lacks is replaced by its nearest ASCII equivalent.
"""

from __future__ import annotations

import codecs
import unicodedata

READABLE = "graphflops.readable"
"""name of the codec error handler that replaces characters by ASCII"""

_EQUIVALENTS = {
    **dict(zip("–—−×·∗′≈•“”‘’„", "---x.*'~*\"\"''\"", strict=True)),  # noqa: RUF001
    **dict(zip("█▓▒░─━═│┃║", "#%+.--=|||", strict=True)),
    **dict.fromkeys("╭╮╯╰┌┐└┘├┤┬┴┼╞╡╪┏┓┗┛┡┩╇╈", "+"),
    **dict(zip("…→←≤≥≠", ("...", "->", "<-", "<=", ">=", "!="), strict=True)),
    **dict(zip("√∂∞⌈⌉⌊⌋", ("sqrt", "d", "inf", "ceil(", ")", "floor(", ")"), strict=True)),
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def safe(text: str) -> str:
    r"""Escape the characters of a text that control a terminal.

    >>> print(safe("layer\x1b[2J"))
    layer\x1b[2J
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_printable(char) else _escaped(char) for char in text)


def in_line(text: str) -> str:
    """Escape a text for one line: newlines and tabs too."""
    return safe(text).replace("\n", "\\n").replace("\t", "\\t")


def readable(text: str, encoding: str) -> str:
    """Replace the characters that an encoding lacks.

    >>> readable("2·N² − 1 …", "ascii")
    '2.N^2 - 1 ...'
    """
    try:
        return text.encode(encoding, READABLE).decode(encoding)
    except LookupError:
        return text.encode("ascii", READABLE).decode("ascii")


def _is_printable(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    """The nearest ASCII text: an equivalent sign, a letter without its accent, the name of a Greek letter."""
    if character in _EQUIVALENTS:
        return _EQUIVALENTS[character]
    if (digit := character.translate(_SUPERSCRIPTS)) != character:
        return f"^{digit}"
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    if letters:
        return letters
    name = unicodedata.name(character, "")
    if name.startswith("GREEK ") and " LETTER " in name:
        letter = name.rpartition(" LETTER ")[2].split()[0]
        return letter.capitalize() if character.isupper() else letter.lower()
    return _escaped(character)


codecs.register_error(READABLE, _replace)
