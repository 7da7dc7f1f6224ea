"""Errors that an operator or a plugin author can meet. Bytes from the network never raise any of these."""


class LtunnelError(Exception):
    """Base of all errors of ltunnel; its text is one line that says what to do."""


class ConfigError(LtunnelError):
    """The configuration cannot be used. The text names source, field and value."""


class PluginError(LtunnelError):
    """A selected plugin cannot be used. The text names plugin, distribution, version and reason."""


class HostError(LtunnelError):
    """The machine refuses something that is needed: a device, a port, a permission."""


class WireError(LtunnelError):
    """Bytes that are not what they claim to be. Raised by parsers, caught and counted where they are called."""
