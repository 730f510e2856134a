import numpy as np
import pytest
import torch

from occlab.errors import OcclabError
from occlab.viz import clouds_figure, points_figure


def cloud(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((-50, -50, -2, 0), (50, 50, 3, 1), (n, 4)).astype(np.float32)


def test_points_lie_where_they_are_and_are_coloured_by_height():
    points = cloud(50)
    figure = points_figure(torch.from_numpy(points), title="A cloud")
    trace = figure.data[0]
    assert np.allclose(np.stack([trace.x, trace.y, trace.z], axis=1) / 100, points[:, :3], atol=0.0051)
    assert np.array_equal(trace.marker.color, trace.z)
    assert trace.marker.colorbar.title.text == "height (m)"
    assert figure.layout.title.text == "A cloud"
    assert "(m)" in figure.layout.scene.xaxis.title.text


def test_a_large_cloud_is_thinned_and_says_so():
    figure = points_figure(cloud(100_000))
    assert figure.layout.title.subtitle.text == "100,000 points, 40,000 of them drawn"
    assert len(figure.data[0].x) == 40_000
    assert len(figure.to_json()) < 700_000


def test_colours_follow_their_points_through_the_thinning():
    points = cloud(1000)
    figure = points_figure(points, colour=points[:, 0], max_points=100, colour_name="x (m)")
    trace = figure.data[0]
    assert np.allclose(trace.marker.color, np.array(trace.x) / 100, atol=0.0051)
    assert trace.marker.colorbar.title.text == "x (m)"


def test_far_points_stay_but_do_not_set_the_view():
    points = np.concatenate([cloud(1000), [[5000, 0, 0, 0]]])
    figure = points_figure(points)
    assert figure.data[0].x.max() == 500_000
    assert figure.layout.scene.xaxis.range[1] < 6_000


def test_clouds_share_the_budget_and_have_names():
    figure = clouds_figure({"pseudo": cloud(300), "LiDAR": torch.from_numpy(cloud(100, 1))}, max_points=200)
    assert [trace.name for trace in figure.data[:2]] == ["pseudo (300)", "LiDAR (100)"]
    assert [len(trace.x) for trace in figure.data[:2]] == [100, 100]
    assert figure.data[0].marker.color != figure.data[1].marker.color
    assert all(trace.showlegend for trace in figure.data[:2])


def test_no_points_say_so():
    for figure in (points_figure(np.zeros((0, 3))), clouds_figure({"LiDAR": np.zeros((0, 4))})):
        assert [note.text for note in figure.layout.annotations] == ["no points"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: points_figure(np.zeros((5, 2))), r"\(5, 2\)"),
        (lambda: points_figure(cloud(5), colour="speed"), "speed"),
        (lambda: points_figure(cloud(5), colour=np.zeros(4)), "5 points"),
        (lambda: points_figure(np.full((2, 3), np.nan)), "NaN"),
        (lambda: clouds_figure({}), "at least one"),
        (lambda: clouds_figure({"LiDAR": np.zeros(3)}), "LiDAR"),
    ],
)
def test_wrong_input_is_named(call, words):
    with pytest.raises(OcclabError, match=words):
        call()
