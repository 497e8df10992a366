"""The stream is AES-256 in counter mode, addressed by step and position."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cloister._rng import SecureStream

KEY = bytes(range(32))


def test_words_are_the_cipher_of_their_address():
    address = (7).to_bytes(8, "big") + (2).to_bytes(8, "big")
    block = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor().update(address)
    expected = np.frombuffer(block, dtype="<u8")
    assert SecureStream(KEY).uint64(7, 2, start=4).tolist() == expected.tolist()


def test_the_first_block_equals_nists_example_of_aes256():
    # FIPS 197, appendix C.3: AES-256 of 00112233445566778899aabbccddeeff under 000102...1f.
    index = int.from_bytes(bytes.fromhex("0011223344556677"), "big")
    position = int.from_bytes(bytes.fromhex("8899aabbccddeeff"), "big")
    words = SecureStream(KEY).uint64(index, 2, start=2 * position)
    assert words.tobytes().hex() == "8ea2b7ca516745bfeafc49904b496089"


def test_shards_agree_with_the_whole():
    stream = SecureStream(KEY)
    whole = stream.uint64(3, 100)
    assert np.concatenate([stream.uint64(3, 40), stream.uint64(3, 60, start=40)]).tolist() == whole.tolist()


def test_steps_purposes_and_keys_differ():
    streams = [SecureStream(KEY), SecureStream(KEY).derive("a"), SecureStream(KEY).derive("b"), SecureStream()]
    drawn = [tuple(stream.uint64(step, 4).tolist()) for stream in streams for step in range(3)]
    assert len(set(drawn)) == len(drawn)


def test_a_short_key_and_an_odd_start_are_refused():
    with pytest.raises(ValueError, match="key has 16 bytes"):
        SecureStream(bytes(16))
    with pytest.raises(ValueError, match="even"):
        SecureStream(KEY).uint64(0, 4, start=1)


def test_uniform_is_in_the_half_open_interval():
    values = SecureStream(KEY).uniform(0, 10_000)
    assert 0 <= values.min() < 0.001
    assert 0.999 < values.max() < 1
