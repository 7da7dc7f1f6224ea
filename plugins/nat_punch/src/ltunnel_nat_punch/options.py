"""What an operator may set."""

from pydantic import Field

from ltunnel.plugin import Limits, Options


class PunchOptions(Options):
    """The section ``nat_punch`` of a configuration."""

    rounds: int = Field(3, ge=1, le=6, description="rounds of probes in a row before it is left for a while")
    birthday: bool = Field(True, description="guess ports where one NAT changes them and the other does not")
    ports: int = Field(
        Limits.PORTS, ge=16, le=Limits.PORTS, description="birthday method: ports opened where the NAT changes ports"
    )
    guesses: int = Field(
        Limits.BLIND_PROBES, ge=64, le=Limits.BLIND_PROBES, description="birthday method: probes from the other side"
    )
    rate: int = Field(200, ge=50, le=500, description="birthday method: probes per second")
    port_mapping: bool = Field(True, description="ask routers to map a port, by PCP, NAT-PMP and UPnP")
