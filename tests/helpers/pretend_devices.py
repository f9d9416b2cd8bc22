"""Several devices on a machine that has one, to test a model that is split over them.

Inside `PretendDevices`, tensors on the devices "maia:0", "maia:1", … compute on the CPU. As on a
GPU, an operation on tensors of two devices raises RuntimeError; numbers and indices may be on the
CPU.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
import torch.utils.backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

KIND = "pretend"
_CPU = torch.device("cpu")


class Pretender(torch.Tensor):
    """A tensor in the CPU's memory that says it is on another device."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor, device: torch.device) -> Pretender:
        assert not isinstance(inner, Pretender)
        made: Any = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=device,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Pretender on {self.device} {tuple(self.shape)}"

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


class PretendDevices(TorchDispatchMode):
    """Makes the devices; `moves` counts the tensors moved from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        asked = _asked_device(args, kwargs)
        if asked is not None and args and _is_tensor(args[0]) and args[0].device != asked:
            self.moves[str(args[0].device), str(asked)] += 1
        return _compute(function, args, kwargs)


def _compute(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if function is torch.ops.aten._has_compatible_shallow_copy_type.default:
        return False  # Module.to makes new parameters
    asked = _asked_device(args, kwargs)
    device = _common_device(function, args, kwargs) if asked is None else asked
    if device is None:
        return function(*args, **kwargs)
    with torch.inference_mode(False), torch.no_grad():
        made = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if function._schema.is_mutable:
            return args[0]  # changed in place
        if device.type != KIND:
            return made
        return tree_map(lambda one: Pretender(one, device) if _is_tensor(one) else one, made)


def _asked_device(args: Any, kwargs: Any) -> torch.device | None:
    """The device that the result is to be on, if the call names one."""
    leaves = tree_leaves((args, kwargs))
    return next((one for one in leaves if isinstance(one, torch.device)), None)


def _common_device(function: Any, args: Any, kwargs: Any) -> torch.device | None:
    """The device of all tensors. Raises RuntimeError if they are on several."""
    tensors = [one for one in tree_leaves((args, kwargs)) if _is_tensor(one)]
    if "copy" in function._schema.name:  # into the first
        tensors = tensors[:1]
    indexes = "index" in function._schema.name
    placed = {
        one.device
        for i, one in enumerate(tensors)
        if one.device != _CPU or not (one.dim() == 0 or (indexes and i))
    }
    if len(placed) > 1:
        raise RuntimeError(f"{function}: tensors on {' and '.join(sorted(map(str, placed)))}")
    return next(iter(placed), tensors[0].device if tensors else None)


def _inner(one: Any) -> Any:
    if isinstance(one, torch.device) and one.type == KIND:
        return _CPU
    return one.inner if isinstance(one, Pretender) else one


def _is_tensor(one: Any) -> bool:
    return isinstance(one, torch.Tensor)


def _empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
    with torch.inference_mode(False):
        inner = torch.empty_strided(size, stride, dtype=dtype)
        return Pretender(inner, torch.device(device))


def _copy_from(source, target, non_blocking=False):
    with torch.inference_mode(False), torch.no_grad():
        _inner(target).copy_(_inner(source))
    return target


class _Hooks(torch._C._acc.PrivateUse1Hooks):
    """No accelerator is there for whoever asks torch for one, in this test or the next."""

    def is_available(self) -> bool:
        return False

    def has_primary_context(self, _device: int) -> bool:
        return False

    def is_built(self) -> bool:
        return False


class _Module(torch.utils.backend_registration._DummyBackendModule):
    def is_available(self) -> bool:
        return False

    def device_count(self) -> int:
        return 0


torch.utils.backend_registration._setup_privateuseone_for_python_backend(
    KIND, backend_module=_Module(), hook=_Hooks()
)
# What torch.tensor(…, device=…) needs. It runs below the mode.
_LIBRARY = torch.library.Library("aten", "IMPL")
_LIBRARY.impl("empty_strided", _empty_strided, "PrivateUse1")
_LIBRARY.impl("_copy_from", _copy_from, "PrivateUse1")
_LIBRARY.impl("_local_scalar_dense", lambda one: one.inner.item(), "PrivateUse1")
