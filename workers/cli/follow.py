"""Following one event's stream from the state, and printing it."""

import sys
from contextlib import aclosing

from schemas.records import EventStatus
from workers.cli.command import Output
from workers.cli.frames import FrameText, Piece
from workers.streams.reader import FrameReader
from workers.streams.records import StreamEnd


async def follow(reader: FrameReader, status: EventStatus, output: Output, *, frames: bool = False) -> StreamEnd | None:
    """Print the answer as it comes, and give its end (None when the stream was closed before).

    Args:
        reader: of the state.
        status: the event's; it names the lane.
        output: text word by word; with `--json` and `frames` an object per frame, else nothing until the end.
        frames: whether `--json` prints each frame.
    """
    text = FrameText()
    end: StreamEnd | None = None
    async with aclosing(reader.batches(status.lane, status.id)) as batches:
        async for batch in batches:
            for entry in batch:
                if isinstance(entry, StreamEnd):
                    end = entry
                elif output.as_json and frames:
                    print(f'{{"id":"{entry.id}","frame":{entry.data.decode()}}}', flush=True)
                for piece in [] if isinstance(entry, StreamEnd) else text.feed(entry.data):
                    show(piece, output)
    if not output.as_json:
        print(flush=True)
    elif not frames:
        ending = {"state": end.state, "reason": end.reason} if end else None
        output.record({"id": status.id, "answer": text.answer, "end": ending}, "")
    return end


def show(piece: Piece, output: Output) -> None:
    """The answer's text goes to stdout, what happens around it to stderr."""
    if output.as_json:
        return
    if piece.kind == "text":
        sys.stdout.write(piece.text)
        sys.stdout.flush()
    else:
        output.note(f"[{piece.text}]")
