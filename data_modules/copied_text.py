"""Plain text out of what other systems store: rich text, web pages, HL7, spreadsheets, PDFs, wrong decodings."""

from __future__ import annotations

import codecs
import html
import re
import unicodedata

_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z][a-z\d]{1,30});", re.IGNORECASE)
_BREAK = re.compile(
    r"\r\n?|[\x0b\x0c\x85\u2028\u2029]|_x000D_\n?|_x000A_|(?:\\r)?\\n|\\(?:par|line)\b ?"
    r"|\\X(?:0[AD])+\\|\\\.(?:br|sp|sk|ce|fi|nf|in|ti)[+-]?\d*\\|(?<![\s\d~])~++(?=(?-i:[A-Z\u00c0-\u00de]))"
    r"|</?(?:p|div|li|ul|ol|dl|dt|dd|tr|td|th|table|thead|tbody|tfoot|caption|h[1-6]|hr|br|pre|center|blockquote|"
    r"section|article|html|head|title|body)(?:[ \t][^<>\n]*)?/?>",
    re.IGNORECASE,
)
"""Ends of lines as other systems, web pages, spreadsheets, escaped text and HL7 messages write them."""
_TAG = re.compile(
    r"</?(?:a|b|i|u|s|em|strong|font|span|small|big|sub|sup|mark|code|tt)(?:[ \t][^<>\n]*)?>", re.IGNORECASE
)
_CELL = re.compile(r"(?<![\s>.!?;:|])\s*</t[dh]>\s*<t[dh](?:[ \t][^<>\n]*)?>\s*(?=[^\s<])", re.IGNORECASE)
"""What stands between two cells of a row, such as a finding and the answer to it."""
_ESCAPE = re.compile(r"\\([HNFSTRE])\\")
_ESCAPED = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
"""What HL7 writes as a letter between backslashes; H and N begin and end bold type."""
_BROKEN = re.compile(
    r"(?<![^\W\d_])([^\W\d_]{2,}+)[-\u2010\u00ad][ \t]*\n[ \t]*(?=[^\W\d_]{2})([^\W\d_A-Z\u00c0-\u00de]+)"
)
"""A word that the end of a line broke: ef-, fusion. It is looked for from the start of a word only."""
_HYPHENED = re.compile(
    "right|left|well|ill|non|air|ground|tree|soft|follow|mid|upper|lower|high|low|mild|old|new|long|short|large|small|"
    "thin|thick|catheter|tube|line",
    re.IGNORECASE,
)
"""What keeps its hyphen before the end of a line (right-sided), and behind it."""
_HYPHENED_AFTER = re.compile(
    "sided|based|related|like|shaped|defined|term|up|appearing|wall|point|density|year|month|day|level|grade|tip|in|to|"
    "glass|space|lying|standing|sized"
)
_HANGING = re.compile("und|oder|bzw|sowie|bis|and|or|et|ou|ed|od|ni|nor")
"""What stands behind a hyphen that ends no word: Pleura- und Perikarderguss."""
_SIGNS: dict[int, str] = {
    **dict.fromkeys((0xA0, 0x202F, 0x2009, 0x2007), " "), 0xFF1A: ":", 0xFEFF: "", 0xAD: "", 0x2011: "-",
    **dict(zip(range(0xFB00, 0xFB07), ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True)),
}  # fmt: skip
"""One sign for several of spaces and colons, letters for ligatures, nothing for soft hyphens."""
_BYTES = {sign: byte for byte in range(0x80, 0xC0) for sign in (chr(byte), bytes([byte]).decode("cp1252", "ignore"))}
_LATER = re.escape("".join(_BYTES))
_GARBLED = re.compile(rf"[\u00c2\u00c3][{_LATER}]|\u00e2[{_LATER}]{{2}}")
"""UTF-8 of Western letters and of punctuation that was read as Latin-1 or Windows-1252; no language writes these."""


def plain(text: str) -> str:
    """Return the text with one kind of line end, of space and of colon, composed letters, and words in one piece.

    Rich text and entities are decoded, also what was decoded wrongly before; ligatures of a PDF become letters; tags
    of web pages go, and words that the end of a line broke are joined.
    """
    text = mended(text)
    if text.lstrip().startswith("{\\rtf"):
        text = _of_rtf(text)
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), unicodedata.normalize("NFC", text))
    text = _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], ""), _CELL.sub(": ", _TAG.sub("", text)))
    return _BROKEN.sub(_joined, _BREAK.sub("\n", text)).translate(_SIGNS)


def _joined(broken: re.Match[str]) -> str:
    first, second = broken.groups()
    if _HANGING.fullmatch(second):
        return broken[0]
    hyphen = "-" if _HYPHENED.fullmatch(first) or _HYPHENED_AFTER.fullmatch(second) else ""
    return f"{first}{hyphen}{second}"


def garbled(text: str) -> bool:
    """Whether some of the text is UTF-8 that was read in an encoding of one byte a letter (PleuraergÃ¼sse)."""
    return mended(text) != text


def mended(text: str) -> str:
    """Return the text with such letters as they were meant."""
    return _GARBLED.sub(_decoded, text)


def _decoded(match: re.Match[str]) -> str:
    try:
        return bytes([ord(match[0][0]), *(_BYTES[sign] for sign in match[0][1:])]).decode()
    except UnicodeDecodeError:
        return match[0]


_RTF = re.compile(
    r"\\'(?P<byte>[\da-f]{2})|\\u(?P<code>-?\d{1,6}) ?|\\(?P<word>[a-z]{1,32})(?P<number>-?\d{1,9})? ?"
    r"|\\(?P<sign>.)|(?P<group>[{}])|(?P<text>[^\\{}\r\n]+)",
    re.IGNORECASE | re.DOTALL,
)
_SILENT = {"fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "header", "footer", "fldinst"}
"""Groups that hold no text of the document, beside those that a star marks."""
_WORDS = {
    **dict.fromkeys(("par", "line", "sect", "page"), "\n"), "cell": "</td><td>", "row": "</tr>", "tab": "\t",
    "bullet": "\u2022", "endash": "\u2013", "emdash": "\u2014", "lquote": "\u2018", "rquote": "\u2019",
    "ldblquote": "\u201c", "rdblquote": "\u201d",
}  # fmt: skip
_CONTROL = {"~": " ", "_": "-", "-": "", "*": "", "\n": "\n", "\r": "\n", "{": "{", "}": "}", "\\": "\\"}


def _of_rtf(text: str) -> str:
    """The words of a document in Rich Text Format, with its line ends."""
    page = re.search(r"\\ansicpg(\d+)", text)
    codec = f"cp{page[1]}" if page and _known(f"cp{page[1]}") else "cp1252"
    written: list[str] = []
    outer: list[bool] = []
    silent, stands_for, skip = False, 1, 0  # `skip`: signs that stand for the last \u where it cannot be shown
    for match in _RTF.finditer(text):
        said = match["text"] or ""
        if match["group"] == "{":
            outer.append(silent)
        elif match["group"]:
            silent = outer.pop() if outer else False
        elif match["code"]:
            code = int(match["code"]) % 0x10000
            said = "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)
        elif match["byte"]:
            said = bytes.fromhex(match["byte"]).decode(codec, "replace")
        elif match["word"] == "uc":
            stands_for = int(match["number"] or 1)
        elif match["word"] or match["sign"]:
            silent |= match["word"] in _SILENT or match["sign"] == "*"
            said = _WORDS.get(match["word"], "") if match["word"] else _CONTROL.get(match["sign"], "")
        if match["text"] or match["byte"]:
            said, skip = said[skip:], max(0, skip - len(said))
        else:
            skip = stands_for if match["code"] else 0
        written.append("" if silent else said)
    return "".join(written)


def _known(codec: str) -> bool:
    try:
        return codecs.lookup(codec) is not None
    except LookupError:
        return False
