"""What was found out, in words for people."""

from __future__ import annotations

from ltunnel.plugin import Answer, Carrier, Dependence
from ltunnel_nat_punch.campaign import Campaign
from ltunnel_nat_punch.knowledge import Knowledge
from ltunnel_nat_punch.plan import Method

_FILTERS = {
    Dependence.UNKNOWN: "what it lets in is not known",
    Dependence.ENDPOINT_INDEPENDENT: "it lets in whatever is for an open port",
    Dependence.ADDRESS_DEPENDENT: "it lets in at least what comes from hosts that were sent to",
    Dependence.ADDRESS_AND_PORT_DEPENDENT: "it lets in only what comes from a host and port that were sent to",
}

OPEN_A_PORT = (
    "switch on UPnP, NAT-PMP or PCP in the router, or forward a UDP port to this machine and name it with -p2p-port"
)


def describe_nat(known: Knowledge) -> str:
    """Say in one sentence what kind of NAT there is."""
    survey, own = known.udp, known.behaviour()
    if survey.address is None:
        if not survey.blocked:
            return "not known yet"
        instead = "" if known.tcp.address is None else "; direct paths are looked for by fake TCP"
        return f"UDP is blocked: the hub's answers do not arrive{instead}"
    if known.reachable:
        return "a NAT with a port that is mapped to this machine: reachable from everywhere"
    filters = _FILTERS[own.filtering]
    if survey.address[0] in {here.address[0] for here in known.local if here.carrier is Carrier.UDP}:
        return f"no NAT; {filters}"
    if own.mapping is Dependence.UNKNOWN:
        return "a NAT whose kind is not known, since the hub has no second port to ask"
    kind = "hard (symmetric): another port for each destination" if known.hard else "easy: one port for all"
    hairpin = "; it turns packets to itself around" if own.hairpin is Answer.YES else ""
    return f"a NAT, {kind}; {filters}{hairpin}"


def general_advice(known: Knowledge) -> list[str]:
    """Say what one could do about this machine's NAT."""
    if known.udp.blocked:
        if known.tcp.address is not None:
            return []
        return ["let UDP out of this network, or use transport_faketcp, so that direct paths are possible"]
    if Carrier.UDP in known.mapped and not known.reachable:
        return ["the router maps a port, but is behind another NAT itself, which would have to do so, too"]
    return [f"this NAT is in the way of direct paths: {OPEN_A_PORT}"] if known.hard else []


def peer_advice(campaign: Campaign, known: Knowledge) -> list[str]:
    """Say what one could do about the path to a peer."""
    if campaign.direct:
        return []
    if campaign.reason:
        return [f"the hub does not arrange a direct path: {campaign.reason}"]
    last = campaign.history[-1] if campaign.history else None
    if last is None or last.result in ("direct", "under way"):
        return []
    if last.method is Method.HOPELESS:
        return [f"both NATs take another port for each destination, so neither side can be found: {OPEN_A_PORT}; "
                "one side is enough"]  # fmt: skip
    if last.method in (Method.OPEN, Method.GUESS):
        return [f"one NAT takes a random port for each destination, and guessing it failed; it is tried again, or "
                f"{OPEN_A_PORT}"]  # fmt: skip
    seen = known.udp.address
    if known.behaviour().hairpin is Answer.NO and seen is not None and seen[0] in {host for host, _ in campaign.named}:
        return ["nothing came through: the peer is behind the same NAT, which does not turn packets around"]
    return [f"nothing came through, perhaps a firewall on either side drops UDP: {OPEN_A_PORT}"]
