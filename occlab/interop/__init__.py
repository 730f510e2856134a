"""Other people's formats and training loops. Nothing else in occlab knows of them."""

from .lightning import WatchCallback
from .mmdet3d import MmdetConfig, read_mmdet3d
from .mmengine import WatchHook
from .notes import Said
from .write import to_mmdet3d, write_mmdet3d

__all__ = ["MmdetConfig", "Said", "WatchCallback", "WatchHook", "read_mmdet3d", "to_mmdet3d", "write_mmdet3d"]
