"""One call for several inputs: each parameter becomes a list, and each element of the result an answer."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from squall.runner import results
from squall.runner.calls import RefusedError
from squall.runner.results import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from squall.runner.calls import Executor
    from squall.runner.held import Held

#: Annotations stay texts: what they name need not exist in the container.
_AS_TEXT: dict[str, Any] = {"annotation_format": 4} if sys.version_info >= (3, 14) else {}


class Batch:
    """`answers` by the inputs' numbers; one whose arguments are wrong has its own, and is not in the call."""

    def __init__(self, executor: Executor, function: Callable[..., Any], inputs: Sequence[Held]) -> None:
        self.answers: dict[int, Answer] = {}
        self._executor = executor
        self._function = function
        self._inputs = inputs
        self._called: list[Held] = []

    def call(self) -> Any:
        """What the function gives for the lists. Raises what it raises, and what share_out() is to get."""
        signature = inspect.signature(self._function, **_AS_TEXT)
        rows = [row for held in self._inputs if (row := self._row(signature, held)) is not None]
        if not rows:
            return []
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        by_keyword = {
            n: columns[n] for n, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY
        }
        return self._function(*[v for n, v in columns.items() if n not in by_keyword], **by_keyword)

    def share_out(self, value: object) -> None:
        """To each input its result. Raises RefusedError for what is no list of as many."""
        count = len(self._called)
        if not isinstance(value, list) or len(value) != count:
            given = f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
            raise RefusedError(
                results.failed(
                    "InvalidError",
                    f"the batched {self._executor.name} returned {given} for {count} inputs: "
                    "return a list with one result for each, in their order",
                )
            )
        for held, result in zip(self._called, value, strict=True):
            self.answers[held.number] = self._answer(result)

    def fail(self, answer: Answer) -> None:
        """The call itself went wrong: for all that have no answer yet."""
        for held in self._inputs:
            self.answers.setdefault(held.number, Answer(dict(answer.header), answer.payload))

    def _row(self, signature: inspect.Signature, held: Held) -> dict[str, Any] | None:
        try:
            args, kwargs = self._executor.arguments(held.payload)
            bound = signature.bind(*args, **kwargs)
        except RefusedError as error:
            self.answers[held.number] = error.answer
            return None
        except TypeError as error:
            self.answers[held.number] = results.of_exception(TypeError(f"{self._executor.name}: {error}"))
            return None
        bound.apply_defaults()
        self._called.append(held)
        return dict(bound.arguments)

    def _answer(self, result: object) -> Answer:
        if isinstance(result, Exception):
            return results.of_exception(result)
        try:
            return Answer({}, self._executor.dump(result))
        except RefusedError as error:
            return error.answer
