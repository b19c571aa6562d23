"""Which errors of Redis may pass by themselves. Those without a class of their own are known by their first word."""

import re

from redis.exceptions import ResponseError

PASSING = re.compile(r"(^|caused error: )(NOREPLICAS|MISCONF) ")
"""Too few replicas, a disk that is full. A pipeline puts the command in front."""


def may_pass(error: Exception) -> bool:
    """Whether calling again may help. It does not where the command is to blame: an error in a script, a wrong type."""
    return type(error) is not ResponseError or PASSING.search(str(error)) is not None
