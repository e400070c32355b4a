"""Every declared message has a frame on file whose bytes may never change; bad frames on file stay refused.

A file holds the parts of a frame (header, then buffers), each after its length (u64, little endian), so that
the SHA-256 of the file is the digest of the message. To add a message or a version, put an example into
EXAMPLES (or a bad frame into write_golden_frames.py and its reason into BAD) and run

    python tests/serialization/write_golden_frames.py

which writes the missing files and never overwrites one. A frame on file that no longer passes is a broken
promise to parties that run the version before: declare a new version of the message instead. (Until the first
release a message may still change: delete its file and write it again.) A second example of a message has a
word after a dot: Invitation_v1.default_encoding.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import tacit.serialization
from tacit.serialization.additive_sharing_messages import (
    AdditiveSharingOptions,
    AggregationParameters,
    FullShare,
    MissingShares,
    ShareSum,
    TooFewShares,
)
from tacit.serialization.codec import Frame, decode, digest, encode
from tacit.serialization.convening_messages import Commission, Commissioned, Convened, ConvenedSum
from tacit.serialization.deployment_messages import Presence
from tacit.serialization.encoding_parameters import (
    AutoRange,
    ExactFloat,
    FixedPoint,
    FixedPointMean,
    Integers,
    Quantized,
)
from tacit.serialization.errors import DecodeError
from tacit.serialization.forms import BUFFER_BYTES
from tacit.serialization.link_messages import Sealed
from tacit.serialization.pairwise_masking_messages import (
    DealtShares,
    ForwardedCodes,
    GraphCommitment,
    GraphCommitments,
    GraphSeed,
    GraphSeeds,
    MaskedInput,
    MaskedPart,
    MaskingParameters,
    PairwiseMaskingOptions,
    PartWanted,
    ReceivedShares,
    SurvivorCodes,
    Survivors,
    UnmaskingShares,
)
from tacit.serialization.ring_paillier_messages import PartialSum, RingPaillierOptions, RingParameters
from tacit.serialization.schema import Message, registered_messages
from tacit.serialization.secret_sharing_messages import (
    IncludedShares,
    SecretSharingOptions,
    SharedInput,
    SharingParameters,
    SummedShares,
)
from tacit.serialization.session_messages import (
    Abort,
    ArraySpecification,
    Begin,
    Closed,
    Finished,
    Invitation,
    Party,
    Query,
    Ready,
    Refusal,
)

GOLDEN = Path(__file__).with_name("golden")


def _bytes(first: int, length: int) -> bytes:
    """Tell fields apart: consecutive bytes from another first one."""
    return bytes((first + i) % 256 for i in range(length))


SESSION = _bytes(0, 32)
OPTIONS = RingPaillierOptions(key_bits=3072, masks=True, noise="fixed-base", fresh_keys=False, colluding=1)
MODULI = RingParameters(moduli=(2**127 - 1, 2**63, -(2**63) - 1, 3))
TOTAL = ArraySpecification(name="total", dtype="float64", shape=(2, 3))
QUERY = Query(
    step="newton",
    arrays={
        "theta": np.array([0.5, -0.0, np.inf]),
        "bool": np.array([[True], [False]]),
        "scalar": np.array(-2, np.int16),
        "empty": np.zeros((0, 3), np.float32),
    },
    may_fail=True,
)
CLOSED = Closed(session=_bytes(1, 32), holder="site-1", forwarded=False, signature=_bytes(2, 64))
READY = Ready(
    session=SESSION,
    holder="site-2",
    invitation=_bytes(3, 32),
    arrays=(TOTAL,),
    ephemeral=_bytes(4, 32),
    signature=_bytes(5, 64),
)
STATEMENT = MissingShares(
    session=SESSION,
    binding=_bytes(30, 32),
    aggregator="aggregator-1",
    missing=("Köln", "site-2"),
    signature=_bytes(31, 64),
)
HIDDEN = AdditiveSharingOptions(aggregators=2, colluding=1, at_most=20)
COMMISSION = Commission(options=HIDDEN, commitment=_bytes(40, 32), everybody=True)
PARTIES = tuple(
    Party(name=name, kind=kind, verify_key=_bytes(10 * i, 32), agreement_key=_bytes(10 * i + 5, 32))
    for i, (name, kind) in enumerate([("center", "coordinator"), ("Köln", "holder"), ("site-2", "holder")])
)

EXAMPLES: dict[str, Message] = {
    "Party_v1": PARTIES[1],
    "ArraySpecification_v1": TOTAL,
    "Query_v1": QUERY,
    "Closed_v1": CLOSED,
    "Invitation_v1": Invitation(
        session=SESSION,
        protocol=OPTIONS,
        encoding=FixedPoint(bound=1000.0, fraction_bits=20),
        roster=PARTIES,
        definition=_bytes(6, 32),
        query=QUERY,
        ephemeral=_bytes(7, 32),
        previous=(CLOSED,),
        signature=_bytes(8, 64),
    ),
    "Invitation_v1.default_encoding": Invitation(
        session=SESSION,
        protocol=OPTIONS,
        encoding=None,
        roster=(),
        definition=_bytes(6, 32),
        query=Query("sum"),
        ephemeral=_bytes(7, 32),
        previous=(),
        signature=_bytes(8, 64),
    ),
    "Ready_v1": READY,
    "Refusal_v1": Refusal(session=SESSION, reason="policy", details=""),
    "Begin_v1": Begin(session=SESSION, ready=(READY,), parameters=MODULI, signature=_bytes(9, 64)),
    "Abort_v1": Abort(session=SESSION, reason="lost", lost=("site-1", "Köln")),
    "Finished_v1": Finished(session=SESSION, released=True),
    "RingPaillier_v1": OPTIONS,
    "RingParameters_v1": MODULI,
    "PartialSum_v1": PartialSum(
        session=SESSION,
        hop=2,
        binding=_bytes(11, 32),
        key_id=_bytes(12, 32),
        ciphertexts=np.arange(24, dtype=np.uint8).reshape(3, 8),
    ),
    "PairwiseMasking_v1": PairwiseMaskingOptions(
        threshold=None, neighbours=None, epoch=16, active=True, mode="resilient", colluding=1
    ),
    "PairwiseMasking_v1.by_hand": PairwiseMaskingOptions(
        threshold=67, neighbours=80, epoch=255, active=False, mode="direct", colluding=32
    ),
    "MaskingParameters_v1": MaskingParameters(epoch=_bytes(15, 32), index=254),
    "GraphCommitment_v1": GraphCommitment(session=SESSION, commitment=_bytes(16, 32)),
    "GraphCommitments_v1": GraphCommitments(
        session=SESSION, commitments=(_bytes(16, 32), _bytes(17, 32), _bytes(18, 32))
    ),
    "GraphSeed_v1": GraphSeed(session=SESSION, seed=_bytes(19, 32)),
    "GraphSeeds_v1": GraphSeeds(session=SESSION, seeds=(_bytes(19, 32), _bytes(20, 32))),
    "DealtShares_v1": DealtShares(
        session=SESSION,
        sealed=(_bytes(21, 144), _bytes(22, 144)),
        locked_seeds=(_bytes(23, 80), _bytes(24, 80)),
        seed_commitments=np.arange(128, dtype=np.uint8).reshape(2, 2, 32),
        self_commitments=np.arange(64, dtype=np.uint8).reshape(2, 32),
    ),
    "ReceivedShares_v1": ReceivedShares(
        session=SESSION, dealers=("Köln", "site-2"), sealed=(_bytes(25, 144),)
    ),
    "MaskedInput_v1": MaskedInput(
        session=SESSION,
        binding=_bytes(26, 32),
        flag=np.array([2**64 - 1], np.uint64),
        vectors=(
            np.arange(5, dtype=np.uint32),
            np.arange(3, dtype=np.uint64),
            np.arange(10, dtype=np.uint64).reshape(2, 5),
        ),
    ),
    "MaskedPart_v1": MaskedPart(
        session=SESSION,
        binding=_bytes(26, 32),
        turn=7,
        part=3,
        vectors=(np.arange(4, dtype=np.uint32), np.arange(10, dtype=np.uint64).reshape(2, 5)),
    ),
    "PartWanted_v1": PartWanted(session=SESSION, turn=7, part=3),
    "Survivors_v1": Survivors(session=SESSION, survivors=("Köln", "site-2")),
    "SurvivorCodes_v1": SurvivorCodes(session=SESSION, codes=np.arange(64, dtype=np.uint8).reshape(2, 32)),
    "ForwardedCodes_v1": ForwardedCodes(
        session=SESSION, codes=np.arange(64, dtype=np.uint8)[::-1].reshape(2, 32)
    ),
    "UnmaskingShares_v1": UnmaskingShares(
        session=SESSION, binding=_bytes(27, 32), shares=np.arange(96, dtype=np.uint8).reshape(3, 32)
    ),
    "Presence_v1": Presence(
        party="site-1",
        study=_bytes(40, 32),
        version="1.2.3",
        challenge=_bytes(41, 32),
        seconds=1_700_000_000,
        signature=_bytes(42, 64),
    ),
    "Sealed_v1": Sealed(
        session=SESSION,
        sender="site-1",
        recipient="site-2",
        handshake=False,
        counter=2**64 - 1,
        ephemeral=_bytes(14, 32),
        body=_bytes(13, 40),
        buffers=(np.arange(BUFFER_BYTES, dtype=np.uint8), np.arange(3, dtype=np.uint8)),
    ),
    "AdditiveSharing_v1": AdditiveSharingOptions(aggregators=3, colluding=2),
    "AdditiveSharing_v1.hidden": HIDDEN,
    "AggregationParameters_v1": AggregationParameters(needed=4),
    "FullShare_v1": FullShare(
        session=SESSION,
        binding=_bytes(30, 32),
        flag=np.array([2**64 - 1], np.uint64),
        vectors=(np.arange(3, dtype=np.uint32), np.arange(4, dtype=np.uint64).reshape(2, 2)),
    ),
    "MissingShares_v1": STATEMENT,
    "ShareSum_v1": ShareSum(
        session=SESSION,
        statements=(STATEMENT,),
        flag=np.zeros(1, np.uint64),
        vectors=(np.arange(3, dtype=np.uint32), np.arange(4, dtype=np.uint64).reshape(2, 2)),
    ),
    "Commission_v1": COMMISSION,
    "Commissioned_v1": Commissioned(
        invitation=Invitation(
            session=SESSION,
            protocol=COMMISSION,
            encoding=None,
            roster=(),
            definition=_bytes(6, 32),
            query=Query("sum"),
            ephemeral=_bytes(7, 32),
            previous=(),
            signature=_bytes(8, 64),
        ),
        salt=_bytes(41, 32),
    ),
    "Convened_v1": Convened(session=SESSION, binding=_bytes(30, 32), arrays=(TOTAL,)),
    "ConvenedSum_v1": ConvenedSum(
        session=SESSION,
        convened=_bytes(42, 32),
        included=_bytes(43, 32),
        at_least=4,
        flag=np.zeros(1, np.uint64),
        vectors=(np.arange(3, dtype=np.uint32), np.arange(4, dtype=np.uint64).reshape(2, 2)),
    ),
    "TooFewShares_v1": TooFewShares(session=SESSION, statements=(STATEMENT,)),
    "SecretSharing_v1": SecretSharingOptions(
        threshold=None, share_holders=None, packing=1, robust=True, colluding=1
    ),
    "SecretSharing_v1.open": SecretSharingOptions(
        threshold=None, share_holders=None, packing=None, robust=True, colluding=1
    ),
    "SecretSharing_v1.named": SecretSharingOptions(
        threshold=5, share_holders=("site-2", "Köln"), packing=3, robust=False, colluding=2
    ),
    "SharingParameters_v1": SharingParameters(threshold=5),
    "SharedInput_v1": SharedInput(
        session=SESSION,
        binding=_bytes(31, 32),
        sealed=(np.arange(48, dtype=np.uint8), np.arange(24, dtype=np.uint8)),
    ),
    "IncludedShares_v1": IncludedShares(
        session=SESSION,
        included=("site-1", "Köln", "site-2"),
        sealed=(np.arange(24, dtype=np.uint8), np.arange(24, 48, dtype=np.uint8)),
    ),
    "SummedShares_v1": SummedShares(
        session=SESSION,
        binding=_bytes(32, 32),
        totals=(np.array([[2**61 - 2]], np.uint64), np.arange(6, dtype=np.uint64).reshape(3, 2)),
    ),
    "Integers_v1": Integers(),
    "ExactFloat_v1": ExactFloat(),
    "FixedPoint_v1": FixedPoint(bound=1000.0, fraction_bits=20),
    "FixedPoint_v1.by_name": FixedPoint(
        bound={"weights": 1.0, "bias": 100.0}, fraction_bits={"weights": 40, "bias": 20}
    ),
    "FixedPointMean_v1": FixedPointMean(FixedPoint(bound=8.0, fraction_bits=27)),
    "AutoRange_v1": AutoRange(),
    "Quantized_v1": Quantized(bits=8, clip=2.5),
    "Quantized_v1.by_name": Quantized(bits=31, clip={"weights": 0.1, "Köln": 1e6}),
}

# What the error of each bad frame says: it must be refused for the reason in its name.
BAD = {
    "array_cut_short": "cut short",
    "array_inline_with_a_buffer_number": "canonical",
    "array_of_another_dtype": "fields of PartialSum",
    "array_of_nine_dimensions": "impossible shape",
    "array_of_objects": "unknown dtype",
    "array_of_unused_claims": "shape",
    "array_shape_cut_short": "impossible shape",
    "array_shape_of_2_to_40": "shape",
    "array_shape_overflows": "shape",
    "array_shape_too_large_though_empty": "well formed",
    "array_stored_big_endian": "unknown dtype",
    "big_integer_empty": "canonical",
    "big_integer_that_is_small": "canonical",
    "big_integer_with_a_needless_byte": "canonical",
    "bool_array_with_a_two": "fields of Query",
    "buffer_missing": "buffers once",
    "buffer_never_used": "left over",
    "buffer_numbers_out_of_order": "buffers once",
    "buffer_of_a_small_array": "canonical",
    "buffer_of_another_size": "shape",
    "buffer_used_twice": "buffers once",
    "buffered_array_with_items": "buffers once",
    "bytes_for_text": "fields of Refusal",
    "bytes_length_not_minimal": "canonical",
    "choice_not_offered": "fields of Party",
    "container_for_a_scalar": "container",
    "dimension_negative": "fields of ArraySpecification",
    "dimensions_too_many": "fields of ArraySpecification",
    "empty": "well formed",
    "field_missing": "number of fields",
    "field_too_many": "number of fields",
    "float_of_32_bits": "canonical",
    "float_for_integer": "fields of PartialSum",
    "format_unknown": "format",
    "grid_of_half_an_array": "fields of FixedPoint",
    "grid_of_infinite_bound": "fields of FixedPoint",
    "header_cut_short": "well formed",
    "header_of_no_array": "well formed",
    "header_with_bytes_left_over": "left over",
    "integer_for_bool": "fields of Finished",
    "integer_for_float": "canonical",
    "integer_not_minimal": "canonical",
    "map_for_a_tuple": "well formed",
    "message_unknown": "unknown",
    "names_out_of_order": "canonical",
    "name_twice": "canonical",
    "nested_of_another_class": "unexpected",
    "nested_too_deep": "deep",
    "none_for_text": "fields of Refusal",
    "number_for_a_map": "well formed",
    "reserved_byte": "well formed",
    "session_too_short": "fields of Finished",
    "surrogate_in_text": "well formed",
    "text_length_not_minimal": "canonical",
    "text_not_utf8": "well formed",
    "text_too_long": "fields of Refusal",
    "timestamp_for_an_integer": "fields of PartialSum",
    "timestamp_of_a_wrong_length": "well formed",
    "tuple_claims_too_many": "more items",
    "version_as_true": "canonical",
    "version_unknown": "unknown",
}


def frame_of(path: Path) -> Frame:
    """Read a frame from its file."""
    content, parts = path.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        parts.append(content[8 : 8 + length])
        content = content[8 + length :]
    return Frame(parts[0], tuple(np.frombuffer(part, np.uint8) for part in parts[1:]))


def declared_in_tacit() -> set[str]:
    """Import every file of the layer and name the golden frames that there must be."""
    for module in pkgutil.iter_modules(tacit.serialization.__path__):
        importlib.import_module(f"tacit.serialization.{module.name}")
    return {
        f"{name.replace('/', '-')}_v{version}"
        for (name, version), declared in registered_messages().items()
        if declared.__module__.startswith("tacit.")
    }


def test_every_declared_message_has_a_golden_frame() -> None:
    on_file = {path.stem for path in GOLDEN.glob("*.frame")}
    exemplified = {name.partition(".")[0] for name in EXAMPLES}
    assert declared_in_tacit() == exemplified, "put an example of every message and version into EXAMPLES"
    assert on_file == set(EXAMPLES), "run python tests/serialization/write_golden_frames.py"


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_frame_decodes_to_the_example(name: str) -> None:
    found = decode(frame_of(GOLDEN / f"{name}.frame"))
    assert f"{found.message_name.replace('/', '-')}_v{found.message_version}" == name.partition(".")[0]
    assert found == EXAMPLES[name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_encodes_to_the_golden_frame(name: str) -> None:
    assert encode(EXAMPLES[name]) == frame_of(GOLDEN / f"{name}.frame")


@pytest.mark.parametrize("name", EXAMPLES)
def test_hash_of_the_file_is_the_digest(name: str) -> None:
    content = (GOLDEN / f"{name}.frame").read_bytes()
    assert hashlib.sha256(content).digest() == digest(EXAMPLES[name])


def test_every_bad_frame_has_its_reason() -> None:
    assert {path.stem for path in (GOLDEN / "bad").glob("*.frame")} == set(BAD)


@pytest.mark.parametrize("name", BAD)
def test_bad_frame_is_refused_for_its_reason(name: str) -> None:
    with pytest.raises(DecodeError, match=BAD[name]):
        decode(frame_of(GOLDEN / "bad" / f"{name}.frame"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_frame_cut_short_is_refused(name: str) -> None:
    frame = frame_of(GOLDEN / f"{name}.frame")
    for length in range(len(frame.header)):
        with pytest.raises(DecodeError):
            decode(Frame(frame.header[:length], frame.buffers))


@pytest.mark.parametrize("name", EXAMPLES)
def test_golden_frame_with_a_flipped_bit_is_another_message_or_refused(name: str) -> None:
    frame = frame_of(GOLDEN / f"{name}.frame")
    for position in range(len(frame.header)):
        altered = bytearray(frame.header)
        altered[position] ^= 1 << position % 8
        try:
            assert decode(Frame(bytes(altered), frame.buffers)) != EXAMPLES[name]
        except DecodeError:
            continue
