"""The trees of RFC 6962 and RFC 9162: the vectors of Certificate Transparency, and every proof of small trees."""

from __future__ import annotations

import pytest
from tacit.records.merkle_tree import EMPTY, inclusion_path, is_included, leaf_hash, root_of

# Inputs and roots of the reference tests of certificate-transparency (cpp/merkletree/merkle_tree_test.cc).
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(entry) for entry in INPUTS]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert root_of([]) == EMPTY


@pytest.mark.parametrize("size", range(1, 20))
def test_every_leaf_is_proven_at_its_place_and_nowhere_else(size: int) -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(size)]
    root = root_of(leaves)
    for index, leaf in enumerate(leaves):
        path = inclusion_path(leaves, index)
        assert len(path) <= (size - 1).bit_length()
        at = [place for place in range(-1, size + 1) if is_included(leaf, place, size, path, root)]
        assert at == [index]


@pytest.mark.parametrize("size", [2, 3, 7, 8])
def test_a_changed_proof_proves_nothing(size: int) -> None:
    leaves = [leaf_hash(bytes([n])) for n in range(size)]
    root, path = root_of(leaves), inclusion_path(leaves, 1)
    for step in range(len(path)):
        changed = [*path[:step], bytes(32), *path[step + 1 :]]
        assert not is_included(leaves[1], 1, size, changed, root)
    assert not is_included(leaves[1], 1, size, path[:-1], root)
    assert not is_included(leaves[1], 1, size, [*path, bytes(32)], root)
    assert not is_included(leaves[0], 1, size, path, root)
    assert not is_included(leaves[1], 1, size, path, bytes(32))
