"""Host side: device, link protocol, sessions."""
