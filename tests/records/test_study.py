"""study.toml: what it says, and everything that is wrong with it, by file, table and key."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from studies import ANALYSIS, HOLDERS, identity_of, parties_text, study_text, write_study
from tacit.models.errors import ModelError
from tacit.models.regression import GLM
from tacit.models.sum import Sum
from tacit.privacy.guarantee import Privacy
from tacit.protocols.additive_sharing import AdditiveSharing
from tacit.protocols.pairwise_masking import PairwiseMasking
from tacit.protocols.ring_paillier import RingPaillier
from tacit.protocols.secret_sharing import SecretSharing
from tacit.records.errors import RecordError
from tacit.records.study import Study
from tacit.serialization.encoding_parameters import FixedPoint


def read(folder: Path, text: str | None = None) -> Study:
    return Study.read(write_study(folder, text))


def test_study_says_what_its_file_says(tmp_path: Path) -> None:
    study = read(tmp_path, study_text(rest='[rules]\nminimum_rows = 20\non_dropout = "continue"'))
    assert study.title == "Insect sprays"
    assert study.parties == tuple(
        identity_of(*each).public
        for each in (("coordinator", "coordinator"), *((name, "holder") for name in HOLDERS))
    )
    assert study.roster.holders == HOLDERS
    assert study.protocol == RingPaillier(3072)
    assert (study.encoding, study.privacy, study.cov_type) == (None, None, "nonrobust")
    assert (study.minimum_holders, study.minimum_rows, study.on_dropout) == (3, 20, "continue")
    assert study.set_changes is None
    assert (study.data, study.address) == ("sprays", "10.1.0.1:6379")


def test_digest_is_of_the_bytes_of_the_file(tmp_path: Path) -> None:
    text = study_text()
    assert read(tmp_path, text).digest == sha256(text.encode()).digest()
    assert read(tmp_path, text + "# a byte more").digest != read(tmp_path, text).digest


def test_model_is_that_of_the_table(tmp_path: Path) -> None:
    model = read(tmp_path).model()
    assert model.definition == GLM("count ~ C(spray)", family="poisson").definition


def test_reading_a_study_loads_no_library_of_models(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    script = (
        f"import sys; from tacit.records.study import Study; Study.read({str(path)!r}); "
        "print(*{'statsmodels', 'pandas', 'formulaic', 'ray', 'torch'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_functions_are_imported_only_if_the_caller_allows_their_names(tmp_path: Path) -> None:
    study = read(tmp_path, study_text(analysis='model = "Sum"\nfunction = "math:fsum"\ndata = "sprays"'))
    with pytest.raises(ModelError, match="no name that may be imported here"):
        study.model()
    assert study.analysis.importable == ("math:fsum",)
    model = study.model(study.analysis.importable)
    assert isinstance(model, Sum)


def test_likelihood_takes_its_start_and_bounds_from_the_file(tmp_path: Path) -> None:
    analysis = (
        'model = "MaximumLikelihood"\nnll = "math:dist"\nstart = {lambda = 5}\nbounds = {lambda = [0, inf]}\n'
        'data = "sprays"'
    )
    model = read(tmp_path, study_text(analysis=analysis)).model(["math:dist"])
    assert model.names == ("lambda",)
    assert model.bounds.to_pairs() == [[0.0, None]]
    assert np.array_equal(model.start, [5.0])


def test_model_of_ones_own_is_made_by_an_allowed_name(tmp_path: Path) -> None:
    study = read(
        tmp_path,
        study_text(analysis='model = "tacit.models.least_squares:OLS"\nformula = "a ~ b"\ndata = "x"'),
    )
    with pytest.raises(ModelError, match="no name that may be imported here"):
        study.model()
    assert study.model(study.analysis.importable).definition.kind == "OLS"


def test_wrong_keyword_of_a_model_is_named(tmp_path: Path) -> None:
    study = read(tmp_path, study_text(analysis=ANALYSIS.replace("family", "familiy")))
    with pytest.raises(RecordError, match=r"\[analysis\], familiy: is not known here; is family meant\?"):
        study.model()


@pytest.mark.parametrize(
    ("protocol", "parties", "expected"),
    [
        ('name = "PairwiseMasking"\nactive = false', "", PairwiseMasking(active=False)),
        (
            'name = "SecretSharing"\nshare_holders = ["north", "east", "south"]\nthreshold = 3',
            "",
            SecretSharing(threshold=3, share_holders=HOLDERS),
        ),
        (
            'name = "AdditiveSharing"',
            parties_text([("adder-1", "aggregator"), ("adder-2", "aggregator")]),
            AdditiveSharing(),
        ),
    ],
)
def test_protocols_take_their_options(tmp_path: Path, protocol: str, parties: str, expected: object) -> None:
    text = study_text(protocol=protocol, parties=parties_text() + "\n" + parties)
    assert read(tmp_path, text).protocol == expected


def test_a_party_may_run_on_the_machine_of_another(tmp_path: Path) -> None:
    study = read(tmp_path, swapped('name = "north"', 'name = "north"\nmachine = "coordinator"'))
    assert study.machines == {
        "coordinator": "coordinator",
        "north": "coordinator",
        "east": "east",
        "south": "south",
    }
    assert "on the machine of coordinator" in str(study)
    assert [party["machine"] for party in study.to_dict()["parties"]] == list(study.machines.values())


def test_encoding_and_privacy_are_made(tmp_path: Path) -> None:
    rest = '[encoding]\nname = "FixedPoint"\nbound = 1000\n'
    analysis = ANALYSIS + "\n[analysis.privacy]\nepsilon = 1.0\ndelta = 1e-6\nclip = 2.0"
    study = read(tmp_path, study_text(analysis=analysis, rest=rest))
    assert study.encoding == FixedPoint(1000.0)
    assert study.privacy == Privacy(1.0, 1e-6, clip=2.0)


def swapped(old: str, new: str) -> str:
    text = study_text(rest="[rules]\nminimum_rows = 20")
    assert old in text
    return text.replace(old, new, 1)


KEY = identity_of("north", "holder").public.verify_key.hex()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (swapped("[cluster]", "[clutser]"), "study.toml, clutser: is not known here; is cluster meant?"),
        (swapped("form = 1", "form = 2"), "form: this version of tacit reads form 1"),
        (swapped('title = "Insect sprays"', 'title = "a\\nb"'), "title: is one line of printable text"),
        (swapped(KEY, KEY[:-1]), "[party 2], verify_key: a key is 64 hexadecimal digits"),
        (swapped(KEY, KEY[:-1] + "x"), "[party 2], verify_key: a key is 64 hexadecimal digits"),
        (swapped('kind = "holder"', 'kind = "asker"'), "kind: is one of coordinator, holder, aggregator"),
        (swapped('kind = "holder"', ""), "[party 2], kind: is missing"),
        (
            swapped('kind = "holder"', 'kinde = "holder"'),
            "[party 2], kinde: is not known here; is kind meant?",
        ),
        (swapped('name = "north"', 'name = "north pole"'), "[party 2], name: 'north pole' is no name"),
        (swapped('name = "north"', 'name = "east"'), "the roster names a party twice"),
        (
            swapped('name = "north"', 'name = "north"\nmachine = "clinic"'),
            "[party 2], machine: 'clinic' is no party of this study with a machine of its own",
        ),
        (
            swapped('name = "north"', 'name = "north"\nmachine = "east"').replace(
                'name = "east"', 'name = "east"\nmachine = "south"'
            ),
            "[party 2], machine: 'east' is no party of this study with a machine of its own",
        ),
        (study_text(parties=""), "[[party]]: there is none: paste what"),
        (
            study_text(parties=parties_text([(name, "holder") for name in HOLDERS])),
            "exactly one coordinator",
        ),
        (
            study_text(parties=parties_text([("a", "coordinator"), ("b", "coordinator")])),
            "exactly one coordinator",
        ),
        (
            study_text(parties=parties_text([("a", "coordinator"), ("b", "holder"), ("c", "holder")])),
            "[protocol]: ring-Paillier needs at least 3 holders, 2 given",
        ),
        (
            study_text(parties=parties_text() + parties_text([("x", "aggregator")])),
            "[protocol]: ring-Paillier takes 0 aggregators, the roster has 1",
        ),
        (swapped('"RingPaillier"', '"Ring"'), "[protocol], name: is one of RingPaillier, PairwiseMasking"),
        (
            swapped("key_bits = 3072", "key_bits = 512"),
            "[protocol]: key_bits is a whole number, at least 2048",
        ),
        (swapped("key_bits = 3072", 'masks = "no"'), "[protocol]: "),
        (swapped("key_bits", "_minimum_key_bits"), "_minimum_key_bits: is not known here"),
        (
            study_text(protocol='name = "SecretSharing"\nshare_holders = ["north", "west", "east"]'),
            "[protocol]: ",
        ),
        (
            study_text(protocol='name = "AdditiveSharing"\nat_most = 9'),
            "at_most: a study names its holders",
        ),
        (swapped('"GLM"', '"GML"'), "[analysis], model: 'GML' is no model that a study can name: take GLM"),
        (swapped('"GLM"', '"NeuralNetwork"'), "a network is made by a function of an installed module"),
        (
            swapped('"GLM"', '"Sum"\nfunction = "len"'),
            'function: a function is named "package.module:function"',
        ),
        (swapped('data = "sprays"', ""), "[analysis], data: is missing"),
        (swapped("minimum_rows = 20", "minimum_rows = -1"), "minimum_rows: is a whole number from 0, not -1"),
        (
            swapped("minimum_rows = 20", "minimum_holders = 4"),
            "minimum_holders: 4, and the study has 3 holders",
        ),
        (swapped("minimum_rows = 20", 'on_dropout = "go on"'), "on_dropout: is one of fail, continue"),
        (swapped("minimum_rows = 20", "set_changes = -1"), "set_changes: is a whole number from 0, not -1"),
        (swapped("10.1.0.1:6379", "10.1.0.1"), "[cluster], address: '10.1.0.1' is no host and port"),
        (swapped("10.1.0.1:6379", "10.1.0.1:65536"), "is no host and port"),
        (study_text(rest='[encoding]\nname = "FixedPoint"'), "[encoding], bound: is missing"),
        (study_text(rest='[encoding]\nname = "FixedPoint"\nbound = "x"'), "[encoding]: "),
        (
            study_text(analysis=ANALYSIS + "\n[analysis.privacy]\nepsilon = 1"),
            "[analysis.privacy], delta: is missing",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RecordError) as caught:
        read(tmp_path, text)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "study.toml"))


def test_two_parties_with_one_key_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="two parties of the roster share a key"):
        read(
            tmp_path,
            study_text().replace(KEY, identity_of("east", "holder").public.verify_key.hex(), 1),
        )


def test_party_is_found_by_its_name(tmp_path: Path) -> None:
    study = read(tmp_path)
    assert study.party("north") == identity_of("north", "holder").public
    with pytest.raises(
        RecordError, match="has no party 'west': its parties are coordinator, north, east, south"
    ):
        study.party("west")


def test_study_is_shown_in_few_lines_and_as_json(tmp_path: Path) -> None:
    study = read(tmp_path)
    shown, content = str(study), json.loads(json.dumps(study.to_dict()))
    assert len(shown.splitlines()) == 11
    for text in (
        "Insect sprays",
        "RingPaillier(key_bits=3072",
        "count ~ C(spray)",
        "north",
        study.digest.hex(),
    ):
        assert text in shown
    assert content["parties"][1]["name"] == "north"
    assert content["digest"] == study.digest.hex()
