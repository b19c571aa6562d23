"""What one reader has not yet read of a channel, bounded."""

import asyncio

from workers.streams.records import Announcement

MAILBOX_BYTES = 256 * 1024
"""Unread bytes above which a slow reader is left to fetch them from the stream, at its own pace."""


class Mailbox:
    """Announcements for one reader. Losing them is harmless: `take` then says to look into the stream."""

    __slots__ = ("_announcements", "_arrived", "_behind", "_size")

    def __init__(self) -> None:
        self._announcements: list[Announcement] = []
        self._arrived = asyncio.Event()
        self._behind = False
        self._size = 0

    def put(self, announcement: Announcement) -> None:
        """Add an announcement, or drop all of them when there are too many."""
        self._size += announcement.size
        if self._behind or self._size > MAILBOX_BYTES:
            self.fall_behind()
            return
        self._announcements.append(announcement)
        self._arrived.set()

    def fall_behind(self) -> None:
        """Announcements were, or may have been, lost."""
        self._announcements.clear()
        self._size = 0
        self._behind = True
        self._arrived.set()

    async def take(self, wait_seconds: float) -> list[Announcement]:
        """What has come, after waiting for it; empty when nothing came in time or something is missing."""
        if not self._arrived.is_set():
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        self._arrived.clear()
        taken, self._announcements = self._announcements, []
        self._size, self._behind = 0, False
        return taken
