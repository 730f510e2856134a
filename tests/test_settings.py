"""Profiles and folders come from the environment, and say what they expect."""

from pathlib import Path

import pytest
import torch

from occlab import OcclabError, home, profile
from occlab.settings import PROFILES, real_data


def test_the_profile_is_asked_for_or_suits_the_machine(monkeypatch):
    monkeypatch.delenv("OCCLAB_PROFILE", raising=False)
    assert profile().name == ("full" if torch.cuda.is_available() else "small")
    monkeypatch.setenv("OCCLAB_PROFILE", "tiny")
    assert profile().name == "tiny"
    assert profile("full").name == "full"
    monkeypatch.setenv("OCCLAB_PROFILE", "huge")
    with pytest.raises(OcclabError, match="'huge'; expected one of full, small, tiny"):
        profile()


def test_small_keeps_the_grid_the_numbers_depend_on():
    assert PROFILES["small"].grid.shape == PROFILES["full"].grid.shape == (32, 180, 180)
    assert PROFILES["full"].width == 1.0


@pytest.mark.parametrize("name", PROFILES)
def test_sweeps_are_smaller_and_the_recipe_is_larger(name):
    size = PROFILES[name]
    sweep, recipe = size.for_sweeps(), size.for_recipe()
    assert sweep.name == recipe.name == name
    assert sweep.grid.n_cells * sweep.steps * sweep.batch_size < size.grid.n_cells * size.steps * size.batch_size
    assert sweep.grid.point_cloud_range == recipe.grid.point_cloud_range == size.grid.point_cloud_range
    assert recipe.grid == size.grid
    assert recipe.train_frames > size.train_frames


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("OCCLAB_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("OCCLAB_HOME")
    assert home() == Path.home() / ".cache" / "occlab"


def test_real_data_is_a_folder_that_exists(monkeypatch, tmp_path):
    monkeypatch.delenv("OCCLAB_REAL_DATA", raising=False)
    assert real_data() is None
    monkeypatch.setenv("OCCLAB_REAL_DATA", str(tmp_path))
    assert real_data() == tmp_path
    monkeypatch.setenv("OCCLAB_REAL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(OcclabError, match=r"OCCLAB_REAL_DATA names .*nowhere"):
        real_data()
