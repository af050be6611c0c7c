"""The affine between H&E pixels and micrometres."""

from dataclasses import replace

import numpy as np
import pytest
import shapely

from shest.io import store
from shest.io.registration import Registration
from shest.tissue import register


def affine(mpp_x, mpp_y, degrees, mirror):
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    linear = turn @ np.diag([mpp_x, -mpp_y if mirror else mpp_y])
    return np.block([[linear, np.array([[30.0], [-12.0]])], [np.zeros((1, 2)), np.ones((1, 1))]])


@pytest.mark.parametrize("degrees", [0, 1.4, 91.3, -179])
@pytest.mark.parametrize("mirror", [False, True])
def test_scale_rotation_and_mirror_come_out_of_the_alignment(degrees, mirror):
    to_um = affine(0.2738, 0.2512, degrees, mirror)
    to_morphology = np.diag([1 / 0.2125, 1 / 0.2125, 1]) @ to_um
    found = Registration.of_alignment(to_morphology, 0.2125)
    assert found.he_to_um == pytest.approx(to_um)
    assert found.um_to_he @ to_um == pytest.approx(np.eye(3), abs=1e-9)
    assert found.mpp == pytest.approx((0.2738, 0.2512))
    assert found.rotation == pytest.approx(degrees)
    assert found.mirror is mirror
    assert found.to_um(np.array([[0.0, 0.0], [10.0, 0.0]]))[0] == pytest.approx([30.0, -12.0])


def test_a_registration_survives_the_disk(tmp_path):
    found = replace(Registration.of_alignment(affine(0.3, 0.25, 12, True), 1.0), share_on_tissue=0.75)
    found.write(tmp_path / "registration.json")
    again = Registration.read(tmp_path / "registration.json")
    assert np.array_equal(again.he_to_um, found.he_to_um)
    assert (again.mpp, again.mirror, again.share_on_tissue) == (found.mpp, True, 0.75)


def test_outlines_go_to_pixels_and_back():
    to_um = affine(0.25, 0.25, 33, True)
    outlines = np.array([shapely.Polygon([(0, 0), (5, 0), (5, 8)]), shapely.Point(3, 4).buffer(2)])
    pixels = store.transform_outlines(outlines, np.linalg.inv(to_um))
    assert shapely.area(pixels) * 0.25**2 == pytest.approx(shapely.area(outlines))
    back = store.transform_outlines(pixels, to_um)
    assert shapely.get_coordinates(back) == pytest.approx(shapely.get_coordinates(outlines))


def test_share_on_tissue_counts_points_outside_as_off_it():
    image = np.full((20, 30, 3), 240, np.uint8)
    image[5:10, 5:15] = (200, 120, 180)
    xy = np.array([[4 * 6, 4 * 6], [4 * 14, 4 * 9], [4 * 20, 4 * 6], [-5, 4 * 6], [1e4, 0]])
    assert register.share_on_tissue(xy, image, 4.0) == pytest.approx(2 / 5)


def test_densest_window_holds_most_points():
    xy = np.concatenate([np.full((5, 2), 10.0), np.full((9, 2), (950.0, 450.0))])
    assert register.densest_windows(xy, (600, 1200), 400) == [(800, 400)]
