"""A stand-in for an accelerator: its tensors are computed on the CPU, but nothing may mix them with the CPU's.

To PyTorch they are tensors of a device of their own (`PrivateUse1`), with autograd and autocast, so that jettag goes
the way it goes on CUDA: jets are packed for the device, one group a batch, fused attention, losses that stay there.
What a GPU would refuse, or wait for, is an error: a tensor of the CPU among those of the device, within `no_waiting`
everything that hands a number to the host, and within `no_doubles` double precision, which Apple's GPUs do not have.

For a process of its own (`python -m tests.standin`): a device must be known before the first backward pass.
"""

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import timm.utils.model_ema
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from jettag.data import transfer
from jettag.models import precision
from jettag.models.precision import WITHOUT_DOUBLES

__all__ = ["DEVICE", "Waits", "no_doubles", "no_waiting", "on_standin"]

NAME = "standin"
aten = torch.ops.aten
HANDS_OVER = {
    aten._local_scalar_dense.default,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten._unique2.default,
}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
PINNED = "_is_page_locked"  # attribute of tensors of the CPU
MOVES = {aten._to_copy.default, aten.copy_.default}
DOUBLES = {torch.float64, torch.complex128}
# As PyTorch's documentation lists them for CUDA, as far as jettag comes by.
IN_HALF = ("addmm", "baddbmm", "bmm", "linear", "matmul", "mm", "scaled_dot_product_attention")
IN_SINGLE = (
    *("binary_cross_entropy_with_logits", "cosine_similarity", "cross_entropy_loss", "cumsum", "exp", "expm1"),
    *("huber_loss", "kl_div", "l1_loss", "layer_norm", "log", "log1p", "log_softmax.int", "logsumexp", "mse_loss"),
    *("nll_loss", "norm.Scalar", "norm.ScalarOpt_dim", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "prod", "reciprocal"),
    *("rsqrt", "smooth_l1_loss", "softmax.int", "softplus", "sum", "sum.dim_IntList"),
)


class Waits(RuntimeError):
    """The host asked for a number of the device."""


class _Module:
    """What `torch.cuda` is for CUDA."""

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
DEVICE = torch.device(NAME, 0)
_waiting = [True]  # whether that is allowed, in all threads
_ran: list[set[str] | None] = [None]  # names of what runs on the device where double precision is not allowed


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Within, the host must not ask for a number."""
    _waiting[0] = False
    try:
        yield
    finally:
        _waiting[0] = True


@contextlib.contextmanager
def no_doubles() -> Iterator[set[str]]:
    """Within, no tensor of the device may have double precision; gives the names of the operators that run there."""
    _ran[0] = ran = set()
    precision.WITHOUT_DOUBLES = (*WITHOUT_DOUBLES, NAME)
    # What scales gradients does without on MPS, and looks for nothing but its name.
    known = {**vars(torch), "device": lambda name: DEVICE if name == "mps:0" else torch.device(name)}
    torch.amp.grad_scaler.torch = types.SimpleNamespace(**known)
    try:
        yield ran
    finally:
        _ran[0] = None
        precision.WITHOUT_DOUBLES = WITHOUT_DOUBLES
        torch.amp.grad_scaler.torch = torch


def _refuse_double(dtype: torch.dtype) -> None:
    if _ran[0] is not None and dtype in DOUBLES:  # as PyTorch refuses it on MPS
        msg = f"{dtype} on {NAME}, which has no double precision"
        raise TypeError(msg)


class _OnDevice(torch.Tensor):
    """A tensor of the device; ``inner`` is one of the CPU, and has its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "_OnDevice":
        _refuse_double(inner.dtype)
        place = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, **place, dtype=inner.dtype, device=DEVICE)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"{NAME}: {self.inner}"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


def _changed(x: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """What an operation takes or gives, each tensor changed; with PyTorch's trees half of all time would go there."""
    if isinstance(x, torch.Tensor):
        return change(x)
    if type(x) in (tuple, list):
        return type(x)([_changed(part, change) for part in x])
    if type(x) is dict:
        return {name: _changed(part, change) for name, part in x.items()}
    assert not isinstance(x, tuple | list | dict) or isinstance(x, torch.Size), type(x)
    return x


def _tensors(args: Any, kwargs: dict[str, Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    _changed((args, kwargs), found.append)
    return found


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do it on the CPU, and give tensors of the device."""
    tensors = _tensors(args, kwargs)
    mine = {id(x.inner): x for x in tensors if isinstance(x, _OnDevice)}
    to = kwargs.get("device")
    stays = bool(mine) if to is None else torch.device(to).type == NAME
    if operation is aten.copy_.default:
        stays = isinstance(args[0], _OnDevice)
    by_mask = operation in INDEXED and any(x is not None and x.dtype is torch.bool for x in args[1])
    if mine and not _waiting[0] and (operation in HANDS_OVER or by_mask or not stays):
        raise Waits(str(operation))
    if operation in MOVES and stays and not _waiting[0]:
        # A copy from the host waits, unless it is told not to and its memory is page-locked.
        source = args[1] if operation is aten.copy_.default else args[0]
        told = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        beside = told and getattr(source, PINNED, False)
        if not isinstance(source, _OnDevice) and source.ndim and not beside:
            msg = f"{operation} of {tuple(source.shape)} from the host, {'' if told else 'not '}told to go on"
            raise Waits(msg)
    strangers = [x for x in tensors if not isinstance(x, _OnDevice) and x.ndim]
    if mine and strangers and operation not in MOVES:
        msg = f"{operation}: a tensor of {strangers[0].device} among those of {NAME}"
        raise RuntimeError(msg)
    args, kwargs = _changed((args, kwargs), lambda x: x.inner if isinstance(x, _OnDevice) else x)
    if to is not None:
        kwargs["device"] = torch.device("cpu")
    result = operation(*args, **kwargs)
    if mine and operation in MOVES:  # on its way to the host it would be converted on the device
        _refuse_double(result.dtype)
    if _ran[0] is not None and (mine or stays):
        _ran[0].add(operation.name())
    # What was changed in place is the tensor that it was.
    return _changed(result, lambda x: mine[id(x)] if id(x) in mine else _OnDevice(x) if stays else x)


class _Mode(TorchDispatchMode):
    """Sends what makes tensors on the device there; all else finds its way by its tensors."""

    def __torch_dispatch__(self, operation: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        to = kwargs.get("device")
        mine = any(isinstance(x, _OnDevice) for x in _tensors(args, kwargs))
        if mine or (to is not None and torch.device(to).type == NAME):
            return _run(operation, args, kwargs)
        return operation(*args, **kwargs)


_fallback = torch.library.Library("_", "IMPL")
_kernels = torch.library.Library("aten", "IMPL")
_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
HALVES = (torch.float16, torch.bfloat16)


def _autocast(name: str, kind: Callable[[], torch.dtype]) -> None:
    """Let autocast run an operation in a type."""
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(aten, packet), overload or "default")

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            args, kwargs = _changed(
                (args, kwargs), lambda x: x.to(kind()) if x.dtype in (torch.float32, *HALVES) else x
            )
            return operation(*args, **kwargs)

    _kernels.impl(name, kernel, "AutocastPrivateUse1")


def _empty(operation: Any) -> Callable[..., _OnDevice]:
    return lambda *args, **kwargs: _OnDevice(operation(*args, **{**kwargs, "device": torch.device("cpu")}))


def _page_locked(x: torch.Tensor) -> torch.Tensor:
    copy = x.clone()
    setattr(copy, PINNED, True)
    return copy


@contextlib.contextmanager
def on_standin() -> Iterator[torch.device]:
    """Within, tensors can be made on the device that is given."""
    # Neither generators nor the bookkeeping of inference mode can be had on a device that is written in Python.
    without = {**vars(torch), "Generator": lambda **_: torch.Generator()}
    timm.utils.model_ema.torch = types.SimpleNamespace(**without)
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()
    transfer.PINNED = (*transfer.PINNED, NAME)
    torch.Tensor.is_pinned = lambda x: getattr(x, PINNED, False)
    torch.Tensor.pin_memory = _page_locked
    with _Mode():
        yield DEVICE


_fallback.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
for _name in IN_HALF:
    _autocast(_name, lambda: torch.get_autocast_dtype(NAME))
for _name in IN_SINGLE:
    _autocast(_name, lambda: torch.float32)
_kernels.impl(  # by which PyTorch copies what Python's numbers became
    "_copy_from",
    lambda source, to, non_blocking=False: _run(aten.copy_.default, (to, source, non_blocking), {}),
    "PrivateUse1",
)
for _name in ("empty.memory_format", "empty_strided"):
    _packet, _, _overload = _name.partition(".")
    _kernels.impl(_name, _empty(getattr(getattr(aten, _packet), _overload or "default")), "PrivateUse1")
