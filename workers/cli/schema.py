"""`schema`: the JSON Schema and AsyncAPI documents of everything that goes over the wire."""

import json

import click

from workers.cli.command import Command, CommandFailedError, Output


@click.command(cls=Command)
@click.argument("name", required=False)
@click.pass_obj
def command(output: Output, name: str | None) -> None:
    """Print the document NAME, or list the documents when no name is given. With --json and no name: all of them."""
    from schemas.export import documents

    known = documents()
    if name is None:
        for document, content in known.items():
            output.record({"name": document, "document": content}, f"{document}  {content.get('title', '')}".rstrip())
        return
    if name not in known:
        raise CommandFailedError(f"there is no document {name!r}; there are: {', '.join(known)}")
    print(json.dumps(known[name], ensure_ascii=False, indent=None if output.as_json else 2))
