"""A GPU without hardware: tensors that say `cuda:0`, keep their values on the CPU, and meet no tensor of the CPU.

What would end on a GPU in "expected all tensors to be on the same device" ends here in `Mismatch`: an operation of both
devices, `numpy()` of a far tensor, a generator of the other device. Autocast gives the operations that Python code
calls the types of PyTorch's lists for CUDA. Neither memory, nor speed, nor kernels are shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import lightning.fabric.accelerators.cuda as fabric
import pytest
import torch
import torch._dynamo  # before torch is said to have CUDA, which it would ask for its parts
from lightning.pytorch.accelerators.cuda import CUDAAccelerator
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader

FAR = torch.device("cuda", 0)
aten = torch.ops.aten
COPY = {aten.copy_.default, aten._to_copy.default}
"""operations that bring values from one device to the other"""
INDEX = {
    aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default,
    aten._unsafe_index.Tensor, aten._unsafe_index_put.default,
}  # fmt: skip
"""operations that take indices of the CPU on any device"""


LOWER = {
    functional.linear, functional.conv2d, functional.conv3d, functional.scaled_dot_product_attention, torch.matmul,
    torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum, torch.mv, Tensor.matmul, Tensor.__matmul__,
    Tensor.__rmatmul__, Tensor.mm, Tensor.bmm,
}  # fmt: skip
"""functions that autocast computes in its own type"""
SINGLE = {
    functional.layer_norm, functional.group_norm, functional.softmax, functional.log_softmax, functional.cross_entropy,
    functional.normalize, functional.grid_sample, functional.mse_loss, functional.cosine_similarity, torch.softmax,
    torch.log_softmax, torch.exp, torch.log, torch.pow, torch.rsqrt, torch.sum, torch.cumsum, torch.prod, torch.norm,
    Tensor.softmax, Tensor.log_softmax, Tensor.exp, Tensor.log, Tensor.pow, Tensor.rsqrt, Tensor.sum, Tensor.cumsum,
    Tensor.prod, Tensor.norm,
}  # fmt: skip
"""and those that it computes in float32"""


class Mismatch(RuntimeError):
    """Tensors of two devices met."""


class FarTensor(Tensor):
    """`inner` has the values. PyTorch's own code takes it for a tensor of the device `meta`, Python code of `FAR`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> FarTensor:
        found = Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device="meta", requires_grad=requires_grad,
        )  # fmt: skip
        found.inner = inner
        return found

    def __init__(self, inner: Tensor, requires_grad: bool = False) -> None: ...

    device = property(lambda self: FAR)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @property  # type: ignore[override]
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: FarTensor) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.inner = value.inner

    def __repr__(self, **_: Any) -> str:
        return f"Far({self.inner!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Files hold the values; where they go is said by whoever loads them."""
        return self.inner.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> FarTensor:
        found = FarTensor(self.inner.detach().clone(), self.requires_grad)
        if getattr(self, "_is_param", False):
            found._is_param = True
        return found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def near(value: Any) -> Any:
    """A tensor with the values of a far one; anything else as it is."""
    return value.inner if isinstance(value, FarTensor) else value


def _is_far(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _is_meta() -> bool:
    """Whether a model is being made without values, as transformers does before it reads a folder."""
    modes = _get_current_function_mode_stack()
    return any(type(mode).__name__ == "DeviceContext" and mode.device.type == "meta" for mode in modes)


def _check(func: Any, args: Any, tensors: list[Tensor]) -> None:
    free = {id(x) for x in tree_leaves(args[1])} if func in INDEX else set()
    other = [x for x in tensors if not isinstance(x, FarTensor) and x.dim() and id(x) not in free]
    if other and func not in COPY:
        raise Mismatch(f"{func}: tensors of {FAR} and cpu, {[tuple(x.shape) for x in other]}")


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on the values, after a look at where its tensors lie."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    with_far = result_far = any(isinstance(x, FarTensor) for x in tensors)
    if with_far:
        _check(func, args, tensors)
    device = kwargs.get("device")
    if device is not None:
        # Operations made of others say `meta` for the device of a far tensor.
        meta = torch.device(device).type == "meta"
        result_far = (with_far or not _is_meta()) if meta else _is_far(device)
    if func is aten.copy_.default:
        result_far = isinstance(args[0], FarTensor)
    generator = kwargs.get("generator")
    if result_far and generator is not None:
        raise Mismatch(f"{func}: a generator of the {generator.device} for a tensor of {FAR}")
    args_near, kwargs_near = tree_map(near, args), tree_map(near, kwargs)
    if result_far and device is not None:
        kwargs_near["device"] = torch.device("cpu")
    found = func(*args_near, **kwargs_near)
    if not result_far:
        return found
    found = tree_map(lambda x: FarTensor(x) if isinstance(x, Tensor) else x, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if with_far else found


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, far: bool, dtype: torch.dtype | None) -> Tensor:  # type: ignore[override]
        ctx.was_far, ctx.dtype = isinstance(x, FarTensor), x.dtype
        values = near(x).detach().to(dtype or x.dtype, copy=True)
        return FarTensor(values) if far else values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        values = near(gradient).to(ctx.dtype)
        return (FarTensor(values) if ctx.was_far else values), None, None


def _moved(x: Tensor, device: Any, dtype: torch.dtype | None = None) -> Tensor:
    with torch._C.DisableTorchFunction():
        return _Move.apply(x, _is_far(device), dtype)


def _to(x: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    if rest and isinstance(rest[0], Tensor):
        device, dtype = rest[0].device, rest[0].dtype
    else:
        known = {name: value for name, value in kwargs.items() if name not in ("copy", "memory_format")}
        device, dtype, *_ = torch._C._nn._parse_to(*rest[:3], **known)
    if device is None:
        return Tensor.to(x, *rest, **kwargs)
    if _is_far(device) != isinstance(x, FarTensor):
        return _moved(x, device, dtype)
    if not _is_far(device):
        return Tensor.to(x, *rest, **kwargs)
    return x if dtype in (None, x.dtype) else Tensor.to(x, dtype)


def _made(func: Callable[..., Tensor], values: Any, *rest: Any, **kwargs: Any) -> Tensor:
    """`torch.tensor` and its like: values of Python come into being on the CPU."""
    device, trains = kwargs.pop("device", None), kwargs.pop("requires_grad", False)
    if isinstance(values, FarTensor) or not _is_far(device):
        return func(values, *rest, **kwargs, **({"device": device} if device is not None else {}))
    found = _moved(func(values, *rest, **kwargs), device)
    return found.requires_grad_() if trains else found


def _indexed(func: Any, x: Tensor, index: Any, *rest: Any) -> Any:
    """A list as an index would be made a tensor of `meta`, which has no values."""
    each = index if isinstance(index, tuple) else (index,)
    each = tuple(torch.tensor(one) if isinstance(one, list) else one for one in each)
    return func(x, each if isinstance(index, tuple) else each[0], *rest)


def _cast(func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Arguments in the types of autocast, where it is on."""
    if not torch.is_autocast_enabled("cuda") or (func not in LOWER and func not in SINGLE):
        return args, kwargs
    dtype = torch.get_autocast_dtype("cuda") if func in LOWER else torch.float32

    def cast(x: Any) -> Any:
        return x.to(dtype) if isinstance(x, FarTensor) and x.is_floating_point() else x

    return tree_map(cast, args), tree_map(cast, kwargs)


class _Functions(TorchFunctionMode):
    """What PyTorch does in C++ before any operation that could be seen."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = _cast(func, args, kwargs or {})
        if func is Tensor.to:
            return _to(*args, **kwargs)
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            return _made(func, *args, **kwargs)
        if not args or not isinstance(args[0], FarTensor):
            return _moved(args[0], FAR) if func is Tensor.cuda else func(*args, **kwargs)
        if func in (Tensor.cpu, Tensor.cuda):
            return _to(args[0], "cpu" if func is Tensor.cpu else FAR)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            return _indexed(func, *args)
        if func is Tensor.new_tensor:
            return _moved(torch.tensor(args[1], dtype=kwargs.get("dtype")), FAR)
        if func is Tensor.tolist:
            return args[0].inner.tolist()
        if func in (Tensor.numpy, Tensor.__array__, Tensor.pin_memory):
            raise Mismatch(f"{func.__name__} of a tensor of {FAR}")
        return func(*args, **kwargs)


@contextlib.contextmanager
def far_device(patch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """One GPU, as torch, Lightning and radz see it, until the context ends; no inference mode, no pinned memory."""
    answers = {
        "is_available": True, "device_count": 1, "is_bf16_supported": True, "current_device": 0, "set_device": None,
        "get_device_name": "a far device", "get_device_capability": (9, 0), "max_memory_allocated": 0,
        "memory_allocated": 0, "empty_cache": None, "reset_peak_memory_stats": None, "synchronize": None,
        "set_rng_state": None, "set_rng_state_all": None, "get_rng_state_all": [], "manual_seed": None,
        "manual_seed_all": None, "is_initialized": True, "memory_stats": {}, "_lazy_init": None,
    }  # fmt: skip
    for name, value in answers.items():
        patch.setattr(torch.cuda, name, lambda *_, _value=value, **__: _value)
    patch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
    patch.setattr(torch, "inference_mode", lambda mode=True: torch.set_grad_enabled(not mode))
    patch.setattr(fabric, "num_cuda_devices", lambda: 1)
    patch.setattr(fabric, "_get_all_visible_cuda_devices", lambda: [0])
    patch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
    backward, loader = torch.autograd._engine_run_backward, DataLoader.__init__

    def in_mode(*args: Any, **kwargs: Any) -> Any:
        """Steps backward may be Python code too."""
        with _Functions():
            return backward(*args, **kwargs)

    patch.setattr(torch.autograd, "_engine_run_backward", in_mode)
    patch.setattr(DataLoader, "__init__", lambda *args, **kwargs: loader(*args, **{**kwargs, "pin_memory": False}))
    torch._C._ensureCUDADeviceGuardSet()
    with _Functions(), _Operations():
        yield FAR
