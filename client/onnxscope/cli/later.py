"""Commands of the contract that this version does not have yet: they say so, and do nothing."""

from collections.abc import Callable
from typing import Annotated

import typer

from onnxscope.cli.console import reporting
from onnxscope.errors import NotImplementedYet

Rest = Annotated[list[str] | None, typer.Argument(hidden=True)]

COMMANDS = {
    "compare": "Find the hook point where two models part.",
    "health": "Find NaNs, infinities, and dead, saturated or exploding units.",
    "analyse": "Run one analysis of KIND: statistics, geometry, similarity, projection ...",
    "report": "Write all analyses of a model into one page.",
}


def command(name: str) -> Callable[[list[str] | None], None]:
    """Returns the command of that name; it raises `NotImplementedYet` whatever it is given."""

    def refuse(rest: Rest = None) -> None:
        del rest
        with reporting():
            raise NotImplementedYet(
                f"onnxscope {name} is not built yet; serve, inspect, capture, probe, sweep and demo are",
                {"feature": name},
            )

    refuse.__doc__ = f"{COMMANDS[name]} Not built yet."
    return refuse
