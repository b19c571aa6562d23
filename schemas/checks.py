"""What the envelope model cannot say: extension attributes, the data of each type, the thread it names."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from schemas.catalogue import ACTION_SEND, data_models, is_request, may_lack_data, nearest_types
from schemas.debounce import debounce_problems
from schemas.double_text import double_text_problems
from schemas.errors import FieldProblem
from schemas.names import NAME_RULE, is_name
from schemas.wording import REMEDIES, problems_of, showable

SESSION_LANE = "session:"
"""Lanes of users and browser sessions begin so; a thread must not stand in one."""

EXTENSION_NAME = re.compile(r"[a-z0-9]{1,64}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
INT32 = range(-(2**31), 2**31)


def extension_problems(fields: Mapping[str, Any], attributes: Mapping[str, Any]) -> list[FieldProblem]:
    """Problems of the fields that are not among the `attributes` of the envelope."""
    return [
        FieldProblem(showable(name), problem)
        for name, value in fields.items()
        if name not in attributes and (problem := _extension_problem(name, value, attributes))
    ]


def _extension_problem(name: str, value: Any, attributes: Mapping[str, Any]) -> str | None:
    if name == "data_base64":
        return "is not taken; give the data as a JSON object in `data`"
    if not EXTENSION_NAME.fullmatch(name):
        meant = re.sub(r"[^a-z0-9]", "", name.lower())
        remedy = f"; did you mean `{meant}`?" if meant in attributes else " (only a-z and 0-9, at most 64)"
        return f"is no CloudEvents attribute name{remedy}"
    if isinstance(value, str):
        return "must not hold control characters" if CONTROL.search(value) else None
    if isinstance(value, int):
        return None if value in INT32 else "is too large for a CloudEvents integer; give it as text"
    return "must be text, a whole number or a boolean; what is more belongs into `data`"


def data_problems(type_: Any, data: Any) -> list[FieldProblem]:
    """Problems of `data`, given what `type` says; those of either's own form are the envelope's."""
    model = data_models().get(type_) if isinstance(type_, str) else None
    problems = [FieldProblem("type", _unknown(type_))] if model is None and isinstance(type_, str) and type_ else []
    if data is None and not (model is not None and may_lack_data(type_)):
        problems.append(FieldProblem("data", f"is missing; {REMEDIES['data']}"))
    if model is None or problems or not isinstance(data, dict | None):
        return problems
    fields = data or {}
    problems = _stated_type(type_, fields)
    try:
        model.model_validate(fields)
    except ValidationError as error:
        problems += problems_of(error, fields, "data")
    problems += double_text_problems(fields) + debounce_problems(fields) if is_request(type_) else []
    named = {problem.field for problem in problems}
    return problems + [problem for problem in _thread_problems(type_, fields) if problem.field not in named]


def named_thread(type_: str, data: Mapping[str, Any]) -> tuple[str, str] | None:
    """The field that names the thread, and the name. None: it cannot be read, or there is none, as in UI events."""
    holder: Any = None
    if type_ == ACTION_SEND:
        field, holder = "data.thread_id", data
    elif is_request(type_):
        field, holder = "data.params.thread_id", data.get("params")
    thread_id = holder.get("thread_id") if isinstance(holder, Mapping) else None
    return (field, thread_id) if isinstance(thread_id, str) else None


def _unknown(type_: str) -> str:
    if near := nearest_types(type_):
        return f"is not known; did you mean {' or '.join(near)}?"
    return "is not known; `chatkit-workers schema` lists what is"


def _stated_type(type_: str, data: Mapping[str, Any]) -> list[FieldProblem]:
    """`data.type` has a default in the official models, but a request without it is none that a client sends."""
    if is_request(type_) and "type" not in data:
        return [FieldProblem("data.type", f"is missing; write {type_.partition('.')[2]!r}, as the event's type says")]
    return []


def _thread_problems(type_: str, data: Mapping[str, Any]) -> list[FieldProblem]:
    named = named_thread(type_, data)
    if named is None:
        return []
    field, thread_id = named
    if not is_name(thread_id):
        return [FieldProblem(field, f"must be {NAME_RULE}")]
    if thread_id.startswith(SESSION_LANE):
        return [FieldProblem(field, f"must not begin with {SESSION_LANE!r}")]
    return []
