"""What filling unused output slots means for a run: which plans do it, and errors that name the slots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from onnxscope_server.catalog.model import CatalogModel
from onnxscope_server.catalog.scopes import BRANCHING
from onnxscope_server.domain import Plan, Value
from onnxscope_server.errors import ModelInvalidError, RunFailedError
from onnxscope_server.result_domain import Fidelity

_SHOWN = 5


def filled(model: CatalogModel, plan: Plan) -> tuple[str, ...]:
    """Returns the addresses of the unused output slots that a plan reads."""
    if not model.contents.slots:
        return ()
    places = model.contents.places(expand=plan.expand)
    return tuple(address for address in plan.addresses if places[address] in model.contents.slots)


def verdict(model: CatalogModel, addresses: tuple[str, ...]) -> Fidelity:
    """Returns what is known of fidelity where graphs are not compared: kernels may compute other bits."""
    operators = {point.address: point.op_type for point in model.hook_points}
    return Fidelity(bool(addresses), tuple(sorted({operators[address] for address in addresses})))


@contextmanager
def blamed(addresses: tuple[str, ...]) -> Iterator[None]:
    """Names the slots in the error of a load or run that goes without them.

    Raises:
        ModelInvalidError: as it came, and which slots were filled.
        RunFailedError: as it came, and which slots were filled.
    """
    try:
        yield
    except (ModelInvalidError, RunFailedError) as error:
        if not addresses:
            raise
        raise type(error)(f"{_told(addresses)} {error.message}", **error.metadata) from error


def check_made(model: CatalogModel, plan: Plan, slots: tuple[str, ...], activations: Mapping[str, Value]) -> None:
    """Checks that every slot that came has a value, but for branches that may not have been taken.

    Args:
        model: the model.
        plan: what was asked of it.
        slots: the slots that the plan reads.
        activations: what came.

    Raises:
        RunFailedError: a kernel left one empty.
    """
    if not slots:
        return
    places = model.contents.places(expand=plan.expand)
    empty = tuple(
        address
        for address in slots
        if address in activations
        and activations[address] is None
        and not any(step.op_type in BRANCHING for step in places[address].path)
    )
    if empty:
        raise RunFailedError(
            f"{_told(empty)} onnxruntime's kernel does not make it. Leave it out",
            detail=", ".join(empty),
        )


def _told(addresses: tuple[str, ...]) -> str:
    more = ", ..." if len(addresses) > _SHOWN else ""
    return f"With the unused output {', '.join(map(repr, addresses[:_SHOWN]))}{more} asked for:"
