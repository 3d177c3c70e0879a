r"""Names, files and errors of others as text that a terminal shows and never obeys, on consoles of any encoding.

Control characters, escape sequences, characters that turn the direction of writing, and surrogates are written as
Python writes them, ``\x1b``. For what a console has no sign for stands the nearest in ASCII.
"""

from __future__ import annotations

import codecs
import unicodedata

READABLE = "graphflops.readable"
"""the name under which codecs know what stands for a character that an encoding lacks"""

_PLAIN = {
    **dict(zip("–—−×·∗′≈•“”‘’„", "---x.*'~*\"\"''\"", strict=True)),  # noqa: RUF001
    **dict(zip("█▓▒░─━═│┃║", "#%+.--=|||", strict=True)),
    **dict.fromkeys("╭╮╯╰┌┐└┘├┤┬┴┼╞╡╪┏┓┗┛┡┩╇╈", "+"),
    **dict(zip("…→←≤≥≠", ("...", "->", "<-", "<=", ">=", "!="), strict=True)),
    **dict(zip("√∂∞⌈⌉⌊⌋", ("sqrt", "d", "inf", "ceil(", ")", "floor(", ")"), strict=True)),
}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def safe(text: str) -> str:
    r"""The same text without anything that a terminal obeys.

    >>> print(safe("layer\x1b[2J"))
    layer\x1b[2J
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if _is_harmless(each) else _escaped(each) for each in text)


def in_line(text: str) -> str:
    """The same, of a name that has to stay on its line."""
    return safe(text).replace("\n", "\\n").replace("\t", "\\t")


def readable(text: str, encoding: str) -> str:
    """The same text in characters that an encoding has.

    >>> readable("2·N² − 1 …", "ascii")
    '2.N^2 - 1 ...'
    """
    try:
        return text.encode(encoding, READABLE).decode(encoding)
    except LookupError:
        return text.encode("ascii", READABLE).decode("ascii")


def _is_harmless(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    """The nearest in ASCII: a sign that reads the same, the letter without its accent, the name of a Greek one."""
    if character in _PLAIN:
        return _PLAIN[character]
    if (raised := character.translate(_RAISED)) != character:
        return f"^{raised}"
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    if letters:
        return letters
    name = unicodedata.name(character, "")
    if name.startswith("GREEK ") and " LETTER " in name:
        letter = name.rpartition(" LETTER ")[2].split()[0]
        return letter.capitalize() if character.isupper() else letter.lower()
    return _escaped(character)


codecs.register_error(READABLE, _instead)
