"""Two clusters against a pathologist's regions: joined by places in the array, as scikit-learn scores them."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from shest.core.errors import InputError
from shest.io.regions import read_regions
from shest.score import regions

HEADER = "Row.names\tx\ty\tpixel_x\tpixel_y\tlabel\n"


def test_regions_are_joined_by_rounded_places_in_the_array(tmp_path):
    path = tmp_path / "r.tsv"
    rows = [
        "a\t9.02\t20.994\t1002.5\t17\tinvasive cancer",
        "b\t9.6\t13.4\t1\t1\tadipose tissue",
        "c\t\t\t\t\tx",
        "d\t1\t2\t3\t4\t",
    ]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    found = read_regions(path)
    assert found.to_dict() == {"9x21": "invasive cancer", "10x13": "adipose tissue"}
    path.write_text("spot_id\tlabel\nAAAC-1\tcancer\n")
    assert read_regions(path).to_dict() == {"AAAC-1": "cancer"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "a\t9\t2\t1\t1\tx\nb\t9.1\t1.9\t1\t1\ty\n", "spot 9x2 stands there twice"),
        ("x\ty\n1\t2\n", "lacks column label"),
        ("", "no table that can be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, text, message):
    path = tmp_path / "r.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_regions(path)


@pytest.fixture(scope="module")
def spots():
    """Expression of 120 spots, a quarter of them cancer, which half of the genes tell."""
    rng = np.random.default_rng(4)
    cancer = np.arange(120) < 30
    return rng.normal(0, 1, (120, 30)) + 3.0 * cancer[:, None] * (np.arange(30) < 15), cancer


def test_clusters_of_what_tells_cancer_agree_with_it(spots):
    values, cancer = spots
    found = regions.two_clusters(values)
    assert (found == regions.two_clusters(values)).all()
    said = regions.agreement(found, cancer)
    assert said == regions.agreement(1 - found, cancer), "whichever cluster is called 1"
    assert said["n"] == 120
    assert said["share"] == said["agree"] / 120 > 0.95
    assert said["majority"] == 0.75
    assert said["rand"] == pytest.approx(adjusted_rand_score(cancer, found))
    for labels in (found, 1 - found):
        called = regions.stands_for_cancer(labels, cancer)
        assert (called == cancer).sum() == said["agree"]


def test_clusters_of_noise_may_agree_and_the_rand_index_says_that_it_is_nothing(spots):
    noise = np.random.default_rng(5).normal(0, 1, spots[0].shape)
    said = regions.agreement(regions.two_clusters(noise), spots[1])
    assert said["share"] < said["majority"]
    assert abs(said["rand"]) < 0.1
