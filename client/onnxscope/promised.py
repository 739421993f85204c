"""What the contract promises and a later version brings: the names, their signatures, and a refusal."""
# ruff: noqa: ARG002  # the signatures are the contract's

from __future__ import annotations

from typing import Any, NoReturn

from onnxscope.interventions import refuse


class PromisedModel:
    """Methods of a model that are not built yet: each raises `NotImplementedYet`."""

    def compare(self, other: Any, X: Any, at: Any = "*", tolerance: Any = None) -> NoReturn:  # noqa: N803
        """Finds the hook point where two models part. Not built yet."""
        refuse("compare")

    def health(self, X: Any, at: Any = "*") -> NoReturn:  # noqa: N803
        """Finds NaNs, infinities, and dead, saturated, exploding, vanishing units. Not built yet."""
        refuse("health")

    def statistics(self, X: Any, at: Any) -> NoReturn:  # noqa: N803
        """Describes distribution, saturation, dead units and sparsity. Not built yet."""
        refuse("statistics")

    def geometry(self, X: Any, at: Any, y: Any = None) -> NoReturn:  # noqa: N803
        """Measures effective rank, intrinsic dimension and separability. Not built yet."""
        refuse("geometry")

    def similarity(self, X: Any, at: Any, other: Any = None, kind: str = "cka") -> NoReturn:  # noqa: N803
        """Compares the representations of hook points. Not built yet."""
        refuse("similarity")

    def projection(self, X: Any, at: Any, kind: str = "pca") -> NoReturn:  # noqa: N803
        """Projects rows to two dimensions. Not built yet."""
        refuse("projection")

    def autoencoder(self, X: Any, at: Any, sizes: Any = (1, 2, 4, 8)) -> NoReturn:  # noqa: N803
        """Measures what bottlenecks keep and discard. Not built yet."""
        refuse("autoencoder")

    def filters(self, node: str) -> NoReturn:
        """Shows a convolution's filters. Not built yet."""
        refuse("filters")

    def feature_maps(self, x: Any, at: Any) -> NoReturn:
        """Shows the channels of one row. Not built yet."""
        refuse("feature_maps")

    def receptive_field(self, at: Any) -> NoReturn:
        """Finds what part of the input a unit sees. Not built yet."""
        refuse("receptive_field")

    def where(self, x: Any, output: str, unit: Any) -> NoReturn:
        """Finds where in the input an output comes from. Not built yet."""
        refuse("where")

    def top_examples(self, X: Any, at: Any, unit: Any) -> NoReturn:  # noqa: N803
        """Finds the rows that excite a unit most. Not built yet."""
        refuse("top_examples")

    def selectivity(self, X: Any, y: Any, at: Any) -> NoReturn:  # noqa: N803
        """Measures what labels units are selective for. Not built yet."""
        refuse("selectivity")

    def contributions(self, x: Any) -> NoReturn:
        """Splits an output into the contributions of the parts. Not built yet."""
        refuse("contributions")

    def lens(self, x: Any, at: Any) -> NoReturn:
        """Reads hidden values through the model's own head. Not built yet."""
        refuse("lens")

    def memory(self, X: Any, at: Any, feature: Any) -> NoReturn:  # noqa: N803
        """Measures how long a state keeps a feature. Not built yet."""
        refuse("memory")

    def attention(self, x: Any) -> NoReturn:
        """Shows attention patterns. Not built yet."""
        refuse("attention")

    def invariance(self, X: Any, at: Any, changes: Any) -> NoReturn:  # noqa: N803
        """Measures what changes of the input a hook point ignores. Not built yet."""
        refuse("invariance")

    def report(self, X: Any, y: Any = None, out: str = "report.html") -> NoReturn:  # noqa: N803
        """Writes a report of all analyses. Not built yet."""
        refuse("report")
