"""AES-GCM as OpenSSH uses it (RFC 5647; PROTOCOL §1.6), with one cipher object per direction and not per packet."""

import struct
from typing import Final

from asyncssh.encryption import Encryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: The nonce's counter has 64 bits and begins anywhere.
COUNTER_WRAP: Final = (1 << 64) - 1
#: A nonce: the fixed part, and the counter.
NONCE: Final = struct.Struct(">4sQ").pack


class AesGcm(Encryption):
    """One direction of aes…-gcm@openssh.com (RFC 5647) that keeps its cipher object. Also serves asyncssh."""

    __slots__ = ("counter", "decrypt", "encrypt", "fixed")

    def __init__(self, key: bytes, iv: bytes) -> None:
        cipher = AESGCM(key)
        self.encrypt, self.decrypt = cipher.encrypt, cipher.decrypt
        #: The nonce: a fixed part, and a counter that grows with each packet.
        self.fixed = iv[:4]
        self.counter = int.from_bytes(iv[4:], "big")

    def next_nonce(self) -> bytes:
        """The nonce for one packet, which is used up with it."""
        counter = self.counter
        self.counter = (counter + 1) & COUNTER_WRAP
        return NONCE(self.fixed, counter)

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        return header + self.encrypt(self.next_nonce(), packet, header), b""

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        return first_block, first_block[:header_len]

    def decrypt_packet(
        self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes
    ) -> bytes | None:
        try:
            return self.decrypt(self.next_nonce(), first[header_len:] + rest + mac, first[:header_len])
        except InvalidTag:
            return None


def adopted(encryption: Encryption | None) -> Encryption | None:
    """asyncssh's AES-GCM as ours, from the packet on that comes next; any other cipher as it is."""
    if type(encryption) is not GCMEncryption:
        return encryption
    cipher = encryption._cipher
    return AesGcm(cipher._key, cipher._iv)
