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
    survey, own = known.nat, known.behaviour()
    if survey.address is None:
        if not survey.blocked:
            return "not known yet"
        instead = "; direct paths are looked for by fake TCP" if _has_tcp(known) else ""
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
    if known.nat.blocked:
        if _has_tcp(known):
            return []
        return ["let UDP out of this network, or use transport_faketcp, so that direct paths are possible"]
    if Carrier.UDP in known.mapped and not known.reachable:
        return ["the router maps a port, but is behind another NAT itself, which would have to do so, too"]
    if not known.hard:
        return []
    whose = " to clients without IPv6" if known.seen(Carrier.UDP, 6) else ""
    return [f"this NAT is in the way of direct paths{whose}: {OPEN_A_PORT}"]


def _has_tcp(known: Knowledge) -> bool:
    return any(survey.family for survey in known.of(Carrier.TCP))


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
        if last.untranslated:
            return ["both sides have IPv6, but nothing came through there, perhaps a firewall on either side drops UDP"]
        return [f"both NATs take another port for each destination, so neither side can be found: {OPEN_A_PORT}; "
                "one side is enough, and so is IPv6 on both"]  # fmt: skip
    if last.method in (Method.OPEN, Method.GUESS):
        return [f"one NAT takes a random port for each destination, and guessing it failed; it is tried again, or "
                f"{OPEN_A_PORT}"]  # fmt: skip
    seen = known.nat.address
    if known.behaviour().hairpin is Answer.NO and seen is not None and seen[0] in {host for host, _ in campaign.named}:
        return ["nothing came through: the peer is behind the same NAT, which does not turn packets around"]
    return [f"nothing came through, perhaps a firewall on either side drops UDP: {OPEN_A_PORT}"]
