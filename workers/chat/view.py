"""The items of a thread as one turn sees them: those that were read so far, and what the turn has changed."""

from datetime import datetime

from schemas.chatkit import Page, ThreadItem
from workers.chat.rows import Window


class ThreadView:
    """The last items of a thread, with the turn's changes; older ones join when they are read."""

    def __init__(self) -> None:
        self._items: dict[str, ThreadItem] = {}
        self._written: dict[str, None] = {}
        self._deleted: dict[str, None] = {}
        self._expected: dict[str, datetime] = {}
        self.first_seq: int | None = None
        """The place of the oldest item that was read."""
        self.is_all = True
        """Whether nothing older is left to be read."""

    def take(self, window: Window) -> None:
        """Put older items before those at hand. What the turn has changed of them stays changed."""
        older = {item.id: item for item in window.items if item.id not in self._deleted}
        self._items = older | self._items
        self.first_seq, self.is_all = window.first_seq, window.reaches_start

    def put(self, item: ThreadItem) -> None:
        """Add an item at the end, or change it where it stands."""
        item.created_at = self._expected.get(item.id, item.created_at)
        self._items[item.id] = item
        self._written[item.id] = None
        self._deleted.pop(item.id, None)

    def expect(self, item: ThreadItem) -> None:
        """The turn will make this item again, which is on the screen already: it stays as old as it is there."""
        self._expected[item.id] = item.created_at

    def remove(self, item_id: str) -> None:
        self._items.pop(item_id, None)
        self._written.pop(item_id, None)
        self._deleted[item_id] = None

    def get(self, item_id: str) -> ThreadItem | None:
        return self._items.get(item_id)

    def may_hold(self, item_id: str) -> bool:
        """Whether the item could be among those that were not read."""
        return not self.is_all and item_id not in self._deleted

    def recent(self, limit: int) -> list[ThreadItem]:
        """The last items, oldest first."""
        return list(self._items.values())[-limit:]

    def covers(self, after: str | None, limit: int, order: str) -> bool:
        """Whether the whole page can be made of what was read."""
        if self.is_all:
            return True
        if order == "asc" or (after is not None and after not in self._items):
            return False
        newer = list(reversed(self._items)).index(after) + 1 if after is not None else 0
        return len(self._items) - newer > limit

    def page(self, after: str | None, limit: int, order: str) -> Page[ThreadItem]:
        """A page of what was read; after an unknown item there is nothing."""
        ids = list(self._items) if order == "asc" else list(reversed(self._items))
        if after is not None:
            ids = ids[ids.index(after) + 1 :] if after in self._items else []
        data = [self._items[id_] for id_ in ids[:limit]]
        more = len(ids) > limit
        return Page(data=data, has_more=more, after=data[-1].id if more and data else None)

    def written(self) -> list[ThreadItem]:
        """Items that the database does not have in this form, in the order in which they were first written."""
        return [self._items[id_] for id_ in self._written]

    def deleted(self) -> list[str]:
        """Ids of items that the database may still have."""
        return list(self._deleted)

    def committed(self) -> None:
        """The database has it all."""
        self._written.clear()
        self._deleted.clear()
