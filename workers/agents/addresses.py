"""Where the text of an answer may point to: images that load by themselves, links that people click.

A model can be talked into an image whose address carries what the conversation holds. The browser fetches it unasked.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

LONGEST = 2_048
"""Characters of text that are held back until it is known what they point to; what is longer points nowhere."""

STARTS = re.compile(r"[!\]<]|\n[ \t]*\n")
STARTS_WITH_LINKS = re.compile(r"[!\]<]|\n[ \t]*\n|(?<![a-z0-9])(?:h|w)", re.IGNORECASE)
BARE = re.compile(r"(?:https?:|www\.)[^\s<>()\[\]\"'`]*", re.IGNORECASE)
BARE_STARTS = ("http:", "https:", "www.")

HOST = r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)"
PATH = r"(?:[/?#][A-Za-z0-9._~/?#@!$&*+,;=%:'-]*)?"
ADDRESS = re.compile(rf"https://{HOST}(?::\d{{1,5}})?{PATH}")
"""The addresses that may be allowed at all: nothing in them is read otherwise by some browser."""
OWN = re.compile(r"#[\w-]*|/(?![/\\])[A-Za-z0-9._~/?#=%:@+,-]*")
"""An address on the page's own server."""
TITLE = r"(?:[ \t]+\"[^\"\n]*\")?"
TARGET = re.compile(rf"\]\([ \t]*(?P<to>[^\s()<>]*){TITLE}[ \t]*\)")
IMAGE = re.compile(rf"!\[(?P<alt>[^\[\]<`!\n]*)\]\((?P<to>[^\s()<>]*){TITLE}[ \t]*\)")
DEFINED = re.compile(r"\]:[ \t]*\n?[ \t>]*(?P<to>\S*)")
AWAY = re.compile(r"<|[a-z][a-z0-9+.-]*:|//|.*[\\&]", re.IGNORECASE | re.DOTALL)
"""A target that may lead to another server, or that may be read as one."""
LOADS = re.compile(r"<(?:img|image|picture|source|video|audio|iframe|object|embed|link|script)\b", re.IGNORECASE)
TAG_NAME = re.compile(r"<[a-z]{0,8}$", re.IGNORECASE)
REMOVED = "(link removed)"


@dataclass(frozen=True, slots=True)
class Hosts:
    """Names of servers, `*.example.com` for all below one; `*` for any."""

    patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> "Hosts":
        """Of a list with commas."""
        return cls(tuple(filter(None, (part.strip().lower() for part in text.split(",")))))

    @property
    def any(self) -> bool:
        return "*" in self.patterns

    def allow(self, address: str) -> bool:
        """Whether an address may be used: https, and a server of the list."""
        if self.any:
            return True
        found = ADDRESS.fullmatch(address)
        return found is not None and any(fnmatchcase(found["host"].lower(), pattern) for pattern in self.patterns)

    def allow_target(self, address: str) -> bool:
        """The same, for text that a page makes a link or an image of: what is on its own server may be used, too."""
        return self.allow(address) or OWN.fullmatch(address) is not None


@dataclass(frozen=True, slots=True)
class Addresses:
    """What an answer may point to. Images: by default nothing; links: by default anything."""

    images: Hosts = field(default_factory=Hosts)
    links: Hosts = field(default_factory=lambda: Hosts(("*",)))

    def clean(self, text: str) -> str:
        """A whole text without what it may not point to."""
        guard = TextGuard(self)
        return guard.feed(text) + guard.finish()


class TextGuard:
    """Cleans one text as it comes. However it is cut, what comes out is the same in the end.

    Markdown is not parsed, since every page parses it a little differently. An image or a link needs `](` or `]:`
    before its address; where that address is not beyond doubt, the bracket is escaped, and the page shows the text.
    """

    def __init__(self, addresses: Addresses) -> None:
        self._images, self._links = addresses.images, addresses.links
        self._starts = STARTS if self._links.any else STARTS_WITH_LINKS
        self._held, self._before = "", ""
        self._image_begun = False  # in this paragraph: what follows it may be its address

    def feed(self, text: str) -> str:
        """The next piece; what can be shown by now."""
        if self._images.any and self._links.any:
            return text
        if not self._held and "\n" not in text and self._starts.search(text) is None:
            self._before = text[-1:] or self._before
            return text
        self._held += text
        return "".join(self._pieces(ended=False))

    def finish(self) -> str:
        """There is no more; what was held back."""
        return "".join(self._pieces(ended=True))

    def _pieces(self, *, ended: bool) -> Iterator[str]:
        while self._held:
            found = self._starts.search(self._before + self._held, len(self._before))
            if found is None:
                yield self._take(self._settled(ended=ended))
                return
            if found.start() > len(self._before):
                yield self._take(found.start() - len(self._before))
            decided = self._decide(ended=ended)
            if decided is None:
                return
            taken, shown = decided
            self._take(taken)
            yield shown

    def _settled(self, *, ended: bool) -> int:
        """How much of a text without a start is no beginning of one: a paragraph may be about to end."""
        tail = re.search(r"\n[ \t]*$", self._held)
        return len(self._held) if ended or tail is None else tail.start()

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        self._before = taken[-1:] or self._before
        return taken

    def _decide(self, *, ended: bool) -> tuple[int, str] | None:
        """What comes of the start at the head of what is held: how much of it is taken, and what is shown instead.
        None: more has to come."""
        match self._held[0]:
            case "!":
                return self._image(ended=ended)
            case "]":
                return self._bracket(ended=ended)
            case "<":
                return self._tag(ended=ended)
            case "\n":
                self._image_begun = False
                end = self._held.index("\n", 1)
                return end, self._held[:end]
            case _:
                return self._bare(ended=ended)

    def _image(self, *, ended: bool) -> tuple[int, str] | None:
        if len(self._held) == 1 and not ended:
            return None
        if self._held[1:2] != "[":
            return 1, "!"
        text = self._until(r"[)\n]", ended=ended)
        if text is None:
            return None
        whole = IMAGE.fullmatch(text)
        if whole is None:
            self._image_begun = True
            return 2, "!["
        return len(text), text if self._images.allow_target(whole["to"]) else f"(image: {whole['alt'].strip()})"

    def _bracket(self, *, ended: bool) -> tuple[int, str] | None:
        if len(self._held) == 1 and not ended:
            return None
        match self._held[1:2]:
            case "(" if self._image_begun or not self._links.any:
                text = self._until(r"\)", ended=ended)
                if text is None:
                    return None
                return 2, "](" if self._may_stay(text) else r"]\("
            case ":":
                text = self._until(r"\S\s", ended=ended, after=2)
                if text is None:
                    return None
                defined = DEFINED.match(text)
                to = defined["to"] if defined else ""
                harmless = AWAY.match(to) is None or (self._images.allow(to) and self._links.allow(to))
                return 2, "]:" if harmless else r"]\:"
            case _:
                return 1, "]"

    def _may_stay(self, text: str) -> bool:
        """Of a bracket and the target that it may have: whether that is allowed, or no address of another server."""
        if self._links.any and AWAY.match(text[2:].strip()) is None:
            return True
        target = TARGET.fullmatch(text)
        if target is None:
            return False
        used_by = [self._links, self._images] if self._image_begun else [self._links]
        return all(hosts.allow_target(target["to"]) for hosts in used_by)

    def _tag(self, *, ended: bool) -> tuple[int, str] | None:
        if TAG_NAME.match(self._held) and not ended:
            return None
        if LOADS.match(self._held) is None:
            return 1, "<"
        text = self._until(">", ended=ended)
        if text is None:
            return None
        return 1, "&lt;" if "//" in text or "\\" in text or "&" in text or text[-1] != ">" else "<"

    def _bare(self, *, ended: bool) -> tuple[int, str] | None:
        lowered = self._held[:6].lower()
        if not ended and any(start.startswith(lowered) for start in BARE_STARTS):
            return None
        address = BARE.match(self._held)
        if address is None:
            return 1, self._held[0]
        if address.end() == len(self._held) and not ended and len(self._held) < LONGEST:
            return None
        text = address[0].rstrip(".,;:!?*_~")
        full = text if text.lower().startswith("http") else f"https://{text}"
        allowed = self._links.allow(full) and len(text) < LONGEST
        return len(text), text if allowed else REMOVED

    def _until(self, end: str, *, ended: bool, after: int = 0) -> str | None:
        """What is held up to the first `end`, with it; None: it has not come yet. Never more than `LONGEST`."""
        found = re.compile(end).search(self._held[:LONGEST], after)
        if found is not None:
            return self._held[: found.end()]
        return self._held[:LONGEST] if ended or len(self._held) >= LONGEST else None
