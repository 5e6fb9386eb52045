import pytest

from basin.report.citations import references_of


@pytest.mark.parametrize(
    ("config", "evaluation", "title"),
    [
        ({"objective": {"class": "DualScoreMatching"}}, {}, "dual score matching"),
        ({"objective": {"class": "DenoisingScoreMatching"}}, {}, "denoising autoencoders"),
        ({"deep": [{"a": {"class": "MALA"}}]}, {}, "Optimal scaling"),
        ({}, {"mmd": {}}, "Two-Sample"),
        ({"training": {"ema_decay": 0.99}}, {}, "Averaging"),
    ],
)
def test_what_is_used_is_cited(config, evaluation, title):
    def cited(*arguments):
        return any(
            title.lower() in reference.title.lower() for reference in references_of(*arguments)
        )

    assert cited(config, evaluation)
    assert not cited({}, {})


def test_hostile_configurations_are_harmless():
    nest: dict = {}
    for _ in range(1000):
        nest = {"class": "__import__", "inner": [nest]}
    for config in (nest, {"class": "os.system"}, {"class": ["MALA"]}, {"training": "x", "data": 3}):
        assert [reference.year for reference in references_of(config, {})] == [2021]


def test_each_is_named_once_and_by_year():
    config = {"a": {"class": "DualScoreMatching"}, "b": {"class": "DenoisingScoreMatching"}}
    found = references_of({**config, "data": {"name": "digits"}, "training": {}}, {"mmd": 1})
    assert len({reference.url for reference in found}) == len(found)
    assert [reference.year for reference in found] == sorted(reference.year for reference in found)
