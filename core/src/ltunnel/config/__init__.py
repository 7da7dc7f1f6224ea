"""What operators write, checked and turned into plain values.

`load` reads a file, flags and the environment into a `Config`; `load_stack` loads the plugins that it selects;
`control_settings` makes what the control side needs. Every error is one line that names source, field and value.
"""

from ltunnel.config.assemble import control_settings, load_stack, network_keys, selection, tunnel_mtu
from ltunnel.config.direct import discovering, missing, port_mapper, routing_policy
from ltunnel.config.fec import fec_settings, fec_values
from ltunnel.config.fields import HostPort, TunnelAddress
from ltunnel.config.load import load
from ltunnel.config.model import Config
from ltunnel.config.reload import waiting

__all__ = [
    "Config",
    "HostPort",
    "TunnelAddress",
    "control_settings",
    "discovering",
    "fec_settings",
    "fec_values",
    "load",
    "load_stack",
    "missing",
    "network_keys",
    "port_mapper",
    "routing_policy",
    "selection",
    "tunnel_mtu",
    "waiting",
]
