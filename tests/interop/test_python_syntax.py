"""A configuration file is read and never run; what is hostile costs one sentence."""

import ast
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occlab import OcclabError
from occlab.interop import read_mmdet3d, write_mmdet3d
from occlab.interop.python_file import NotUnderstood, plain
from occlab.interop.python_syntax import parse
from occlab.training import TrainConfig


def values(text):
    return parse(text, "x.py").values


def sentences(text):
    """What reading a text has to say: of what is not carried, or of why it cannot be read."""
    try:
        read = read_mmdet3d(text)
    except OcclabError as error:
        return [str(error)]
    return [*read.not_carried, *read.changes_nothing]


def test_literals_dicts_and_names_are_understood():
    text = """
'''What this is.'''
_dim_ = 256
norm = dict(type='BN', **dict(eps=1e-3))
model = dict(type='Net', dims=[_dim_, _dim_ * 2, -_dim_ // 2], norm=norm, {unpacked})
alias = other = (1, 'a' 'b', None, True)
root = 'data/'
path = root + 'train.pkl'
both = [1] + [2.5]
first = model['dims'][1]
typed: int = +3
"""
    assert values(text.format(unpacked="**{'depth': 2 ** 3}")) == {
        "_dim_": 256,
        "norm": {"type": "BN", "eps": 1e-3},
        "model": {"type": "Net", "dims": [256, 512, -128], "norm": {"type": "BN", "eps": 1e-3}, "depth": 8},
        "alias": (1, "ab", None, True),
        "other": (1, "ab", None, True),
        "root": "data/",
        "path": "data/train.pkl",
        "both": [1, 2.5],
        "first": 512,
        "typed": 3,
    }


nested = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4) | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(nested)
def test_what_python_prints_is_read_as_literal_eval_reads_it(value):
    text = repr(value)
    assert repr(values(f"x = {text}")["x"]) == repr(ast.literal_eval(text))


@settings(max_examples=50, deadline=None)
@given(st.integers(-50, 50), st.floats(-50, 50), st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]))
def test_arithmetic_is_python_s_or_not_understood(a, b, operation):
    read = values(f"x = ({a}) {operation} ({b!r})")["x"]
    try:
        expected = eval(f"({a}) {operation} ({b!r})")
    except ArithmeticError:
        expected = None
    if isinstance(read, NotUnderstood):
        assert expected is None or isinstance(expected, complex) or abs(expected) >= 2**63
    else:
        assert repr(read) == repr(expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "\n\noptimizer = dict(lr=float('1e-3'))",
            "line 3, optimizer.lr: a call of a function is not understood, and was not run",
        ),
        ("x = f'{1}'", "line 1, x: an f-string"),
        ("x = [y for y in range(10 ** 12)]", "line 1, x: a comprehension"),
        ("x = lambda: 1", "line 1, x: a lambda"),
        ("x = 1 if True else 2", "line 1, x: a condition"),
        ("x = 9 ** 9 ** 9 ** 9", "line 1, x: "),
        ("x = 'a' * 10 ** 9", "line 1, x: an operation on something that is no number"),
        ("x = [0] * 10 ** 9", "line 1, x: an operation on something that is no number"),
        ("x = 0x" + "f" * 10**5, "line 1, x: a whole number this large"),
        ("x = 2 ** 62 * 4", "line 1, x: a whole number this large"),
        ("x = 1 / 0", "line 1, x: arithmetic that fails"),
        ("x = {{ fileDirname }}", "line 1, x: a set, or a placeholder in braces"),
        ("x = nowhere", "line 1, x: the name nowhere, which nothing before it in this file sets,"),
        ("if True:\n    x = 1", "line 1: an if"),
        ("x = dict(a=[1, dict(b=print('no'))])", "line 1, x.a[1].b: a call of a function"),
        ("x = -'a'", "line 1, x: a sign before something that is no number"),
        ("x = [1][5]", "line 1, x: an element that is not there"),
        ("x = b'bytes'", "line 1, x: a value of type bytes"),
        ("x = " + "1 + " * 300 + "1", "line 1, x: an expression of more than 100 levels"),
        ("from a import *", "line 1: an import of everything"),
    ],
)
def test_what_is_no_plain_value_is_named_with_its_line(text, says):
    sentences = parse(text, "x.py").not_understood
    assert len(sentences) == 1
    assert sentences[0].startswith(says)
    assert sentences[0].endswith("is not understood, and was not run")


def test_what_an_unread_statement_may_have_changed_is_unknown_from_there_on():
    file = parse("a = 1\nb = 2\nif a:\n    b = 3\noptimizer = dict(lr=b)\nc = dict(x=1)\nc.update(x=2)\nd = c\ne = 5", "x.py")
    assert isinstance(file.values["b"], NotUnderstood)
    assert isinstance(file.values["optimizer"]["lr"], NotUnderstood)
    assert isinstance(file.values["d"], NotUnderstood)
    assert file.values["e"] == 5


def test_nothing_is_executed(tmp_path):
    mark = tmp_path / "executed"
    for call in (
        f"__import__('os').system('touch {mark}')",
        f"open({str(mark)!r}, 'w')",
        f"exec(\"open({str(mark)!r}, 'w')\")",
    ):
        for text in (
            f"{call}\noptimizer = dict(lr=1e-3)",
            f"optimizer = dict(lr=1e-3, type={call})",
            f"x = (lambda: {call})()",
        ):
            read_mmdet3d(text)
    read_mmdet3d(f"import os\nos.system('touch {mark}')\nclass A:\n    open({str(mark)!r}, 'w')")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = (1,\ny = )", "expected Python, found something else in line"),
        ("x = 1\0", "null bytes"),
        ("x = '\ud800'", "cannot be encoded"),
        ("x = " + "9" * 5000, "expected Python, found something else in line 1"),
        ("x = " + "[" * 10_000 + "]" * 10_000, "too many nested parentheses"),
        ("x = " + "-" * 100_000 + "1", "nested too deeply"),
        ("x = a" + ".a" * 100_000, "nested too deeply"),
        ("x = a" + "()" * 100_000, "nested too deeply"),
        ("x = [" + "1," * 200_000 + "]", "at most 100000 values"),
        ("a = [1, 2]\n" + "a = [a, a]\n" * 60, "at most 100000 values"),
        ("a = 'aa'\n" + "a = a + a\n" * 60, "at most 100000 values"),
        ("x = 1\n" * 10**6, "at most 1 MB"),
    ],
)
def test_a_hostile_text_is_one_sentence(text, says):
    start = time.monotonic()
    with pytest.raises(OcclabError, match=says) as error:
        read_mmdet3d(text + "\n")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250
    assert time.monotonic() - start < 8


def test_a_hostile_file_is_one_sentence_that_names_it(tmp_path):
    for name, content, says in (
        ("large.py", b"#" * 10_000_000, "at most 1 MB"),
        ("latin.py", b"x = '\xe9'", "UTF-8"),
        ("binary.py", bytes(range(256)), "UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OcclabError, match=says) as error:
            read_mmdet3d(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(OcclabError, match="found a folder"):
        read_mmdet3d(tmp_path)
    with pytest.raises(OcclabError, match=r"nowhere\.py.*found none"):
        read_mmdet3d("nowhere.py")
    with pytest.raises(OcclabError, match=r"UTF-8|found none"):
        read_mmdet3d("\0.py")


def test_a_value_that_is_overwritten_before_it_is_used_changes_nothing():
    text = "a = 1\na = 2\nb = a\na = 3\nc = {'x': 1, 'x': 2}\nd = 4\nd = d + 1\n"
    file = parse(text, "x.py")
    assert file.values == {"a": 3, "b": 2, "c": {"x": 2}, "d": 5}
    assert file.repeated == [
        "a (line 1) changes nothing: line 2 sets it again before it is used",
        "c.x (line 5) changes nothing: line 5 gives it again",
    ]


def test_bases_are_named_and_not_opened():
    assert parse("_base_ = ['../a.py', './b.py']", "x.py").bases == ["../a.py", "./b.py"]
    assert read_mmdet3d("_base_ = '/etc/passwd'\n").bases == ("/etc/passwd",)
    lazy = "from mmengine.config import read_base\nwith read_base():\n    from ..schedule import *\n    from .data import *\n"
    assert read_mmdet3d(lazy).bases == ("..schedule", ".data")


def test_an_imported_class_is_known_by_its_name():
    text = "from torch.optim import AdamW\noptim_wrapper = dict(optimizer=dict(type=AdamW, lr=3e-4))\n"
    assert read_mmdet3d(text).config.learning_rate == 3e-4


def test_a_dict_is_read_within_the_same_bounds():
    loop = {}
    loop["again"] = loop
    with pytest.raises(OcclabError, match="100 levels"):
        read_mmdet3d(loop)
    with pytest.raises(OcclabError, match="100000 values"):
        read_mmdet3d({"x": list(range(200_000))})
    file = plain({"a": {"b": object, "c": [1, (2,)]}, "_base_": "x.py"}, "d")
    assert file.values["a"]["c"] == [1, (2,)]
    assert file.not_understood == ["a.b: a value of type type is not understood"]
    assert file.bases == ["x.py"]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_any_text_is_read_or_is_one_sentence(text):
    assert not any("\n" in sentence for sentence in sentences(text + "\n"))


MUTATIONS = int(os.environ.get("OCCLAB_MUTATIONS", 50))

SAMPLE = """point_cloud_range = [-54, -54, -5, 54, 54, 3]
model = dict(type='OccupancyUNet', channels=[256, 512], loss_occ=dict(type='OccupancyLoss', dice=1.0))
optimizer = dict(type='AdamW', lr=1e-3, paramwise_cfg=dict(custom_keys={'refine': dict(lr_mult=10.0)}))
lr_config = dict(policy='CosineAnnealing', warmup='linear', warmup_iters=500, warmup_ratio=1.0 / 3, min_lr_ratio=1e-3)
param_scheduler = [dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500)]
train_pipeline = [dict(type='GlobalRotScaleTrans', rot_range=[-0.3, 0.3])]
"""
words = st.sampled_from(
    ["None", "'x'", "-1", "1e999", "[]", "{}", "dict()", "((1,),)", "True", "nan", "2**62", "[dict(type=3)]", "\ud800"]
)


@settings(max_examples=MUTATIONS, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 12), words | st.text(max_size=3)), min_size=1, max_size=6
    )
)
def test_a_mutated_configuration_is_read_or_is_one_sentence(changes):
    text = SAMPLE
    for start, length, new in changes:
        text = text[:start] + new + text[start + length :]
    assert not any("\n" in sentence for sentence in sentences(text + "\n"))


VALUES = ["None", "'x'", "-1", "0", "1e999", "[]", "{}", "dict()", "((1,),)", "True", "2 ** 62", "1e-320", "dict(type=[])"]


@pytest.mark.parametrize("style", ["mmcv", "mmengine"])
def test_any_value_may_stand_in_any_place(style):
    config = TrainConfig(warmup_steps=5, schedule="cosine", flip=True, rotation=3, custom_keys={"refine": {"lr_mult": 2}})
    tree = ast.parse(write_mmdet3d(config, style))
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert len(constants) > 50
    for i, node in enumerate(constants):
        old, node.value = node.value, "<here>"
        for new in VALUES[i % 3 :: 3]:
            read = read_mmdet3d(ast.unparse(tree).replace("'<here>'", new))
            assert not any("\n" in sentence for sentence in read.not_carried)
        node.value = old
