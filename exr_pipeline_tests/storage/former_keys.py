"""Partition keys as versions before labels wrote them: for tests that such keys are understood and migrated."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def former_key(address: str) -> str:
    """The key of `bucket/folder/name`, `gs:/bucket/…` or `/folder/name`."""
    parts: list[str] = []
    previous = 0
    for byte in address.encode("utf-8", "surrogateescape"):
        if byte == 0x2F and previous != 0x2F:
            parts.append("~")
        elif byte in _PLAIN and not (byte == 0x2E and previous == 0x2E):
            parts.append(chr(byte))
        else:
            parts.append(f"~~{byte:02X}")
        previous = byte
    return "".join(parts)
