from typing import Annotated, Literal

from pydantic import Field

from ltunnel.plugin import Options
from ltunnel.registry.describe import Option, describe


class Inner(Options):
    depth: int = Field(2, ge=1, description="how deep")


class Everything(Options):
    parity: int = Field(3, ge=0, lt=128, description="parity shards\nof a group")
    ratio: float | None = Field(None, gt=0.5, le=1)
    framing: Literal["tcp", "udp"] = "tcp"
    name: str = Field(min_length=1, max_length=8, pattern="^[a-z]+$")
    ports: tuple[Annotated[int, Field(ge=1)], ...] = Field((443,), max_length=4)
    inner: Inner = Inner()
    quiet: bool = False


def test_every_kind_of_field_is_described() -> None:
    options = {option.name: option for option in describe(Everything)}
    assert options["parity"] == Option(
        name="parity", type="integer", default=3, required=False, bounds=">= 0, < 128",
        meaning="parity shards of a group",
    )  # fmt: skip
    assert (options["ratio"].type, options["ratio"].bounds) == ("number or none", "> 0.5, <= 1")
    assert (options["framing"].type, options["framing"].bounds) == ("string", "one of tcp, udp")
    assert options["name"].required
    assert options["name"].bounds == "at least 1 characters, at most 8 characters, matches ^[a-z]+$"
    assert (options["ports"].type, options["ports"].default) == ("list of integer", [443])
    assert options["ports"].bounds == "at most 4 items, each >= 1"
    assert (options["inner.depth"].default, options["inner.depth"].bounds) == (2, ">= 1")
    assert (options["quiet"].type, options["quiet"].default) == ("boolean", False)
    assert len(options) == 7
