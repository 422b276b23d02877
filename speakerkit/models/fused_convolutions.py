"""One utterance on a CPU: convolution, residual sum and activation as one operation, kernels laid out beforehand.

The operators are oneDNN's, as torch's own compiler calls them (``torch.ops.mkldnn``). They aren't a promised
interface, so what comes out is compared with the plain network, which is kept where anything is amiss. The
fused form is made from the network itself: its parts are traced by ``torch.fx`` and the graph is rewritten.
"""

import copy
import inspect
import logging
import operator
import platform
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import fx, nn

from speakerkit.models.folding import stays_as_it_is

log = logging.getLogger(__name__)

PROBE_FRAMES = 64
# Of what a broken operator gives, far less. Deep networks lose that much to two roundings in bfloat16; whether what
# is left will do, the model's golden vector says.
LEAST_COSINE = {torch.float32: 0.99999, torch.bfloat16: 0.99}
CONVOLUTION = inspect.signature(lambda x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1: None)


class Unpadded(nn.Module):
    """A part of a network: fused where nothing is padded, as it was in a padded batch."""

    def __init__(self, plain: nn.Module, graph: fx.GraphModule):
        super().__init__()
        self.plain, self.graph = plain, graph

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None):
        """What the plain part gives."""
        return self.graph(x) if lengths is None else self.plain(x, lengths)


def fuse_convolutions(network: nn.Module, columns: int) -> nn.Module:
    """A network that embeds one utterance faster; what was given where that can't be done.

    Args:
        network: on a CPU, as ``folding.prepare_for_inference`` makes it; it stays as it is.
        columns: of the features.

    Returns:
        A network that shares with it all that isn't fused. In float32 its embedding is the plain one's to rounding
        (cosine > 0.999999); in bfloat16 a residual sum is rounded once instead of twice.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return network
    parts = [name for name in network.convolutional
             if any(isinstance(module, nn.Conv2d) for module in getattr(network, name).children())]
    if not parts:
        return network
    precision = next(getattr(network, parts[0]).parameters()).dtype
    if stays_as_it_is(network, precision):
        return network
    probe = torch.randn(1, PROBE_FRAMES, columns, generator=torch.Generator().manual_seed(1)).to(precision)
    try:
        with torch.inference_mode():
            fused = _with_fused_parts(network, parts, probe)
            cosine = float(torch.cosine_similarity(network(probe), fused(probe)).min())
    except (AttributeError, RuntimeError, NotImplementedError, fx.proxy.TraceError) as error:
        log.info("convolutions aren't fused, which would take less time: %s", " ".join(str(error).split()))
        return network
    if not cosine >= LEAST_COSINE[precision]:
        log.warning("convolutions aren't fused: with this torch they give another embedding, cosine %.6f", cosine)
        return network
    return fused


def _with_fused_parts(network: nn.Module, parts: list[str], probe: torch.Tensor) -> nn.Module:
    """A copy in which the named parts are fused; the rest is shared."""
    fused = copy.copy(network)
    fused._modules = dict(network._modules)
    for name in parts:
        part = getattr(network, name)
        fused._modules[name] = Unpadded(part, fuse_part(part, probe))
    return fused


class _Image(fx.Proxy):
    """A tensor of four axes while a part is traced."""

    def dim(self) -> int:
        """Batch norm asks before it computes."""
        return 4


class _Tracer(fx.Tracer):
    """Records what a part does. fx's own ``trace`` isn't used: meanwhile it changes ``nn.Module`` for all threads."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for a node's value."""
        return _Image(node, self)

    def record(self, part: nn.Module) -> fx.GraphModule:
        """The part called without lengths, down to torch's functions."""
        self.root, self.graph, self.tensor_attrs = part, fx.Graph(), {}
        features = self.create_proxy("placeholder", "features", (), {})
        self.graph.output(self.create_arg(part(features, None)))
        return fx.GraphModule(part, self.graph)


class _Shapes(fx.Interpreter):
    """Runs a graph, and notes the shape of every tensor in it."""

    def run_node(self, node: fx.Node):
        """What the node gives."""
        result = super().run_node(node)
        if isinstance(result, torch.Tensor):
            node.meta["shape"] = result.shape
        return result


def fuse_part(part: nn.Module, given: torch.Tensor) -> fx.GraphModule:
    """A part of a network as a graph, called without lengths, in which what follows a convolution belongs to it.

    Args:
        part: in evaluation mode, batch norm folded; called with features and no lengths.
        given: such features; kernels are laid out for the shapes that follow from theirs, and serve any others.
    """
    module = _Tracer().record(part)
    _drop_whole_slices(module.graph)
    _Shapes(module).run(given)
    for place, node in enumerate(module.graph.nodes):
        node.meta["place"] = place
    for node in list(module.graph.nodes):
        if _calls(node, torch.conv2d) and node.args[1].op == "get_attr":
            _fuse_convolution(module, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _fuse_convolution(module: fx.GraphModule, node: fx.Node) -> None:
    """Put one operation in the place of a convolution and of what alone uses its output: a sum, an activation."""
    call = CONVOLUTION.bind(*node.args, **node.kwargs)
    call.apply_defaults()
    x, weight, bias, stride, padding, dilation, groups = call.args
    stride, padding = _pair(stride), _pair(padding)
    if _shape(weight)[2:] == (1, 1) and padding == [0, 0]:
        x, stride = _with_the_stride_of_slices(x, stride)
    layout = (padding, stride, _pair(dilation), groups)
    kernel, onednn = operator.attrgetter(weight.target)(module), torch.ops.mkldnn
    packed = onednn._reorder_convolution_weight(kernel, *layout, list(_shape(x)))
    module.register_buffer(f"packed_{node.name}", packed, persistent=False)
    total, other = _sum_after(node)
    last, activation, scalars = _activation_after(node if other is None else total, after_sum=other is not None)
    with module.graph.inserting_before(node):
        operands = (module.graph.get_attr(f"packed_{node.name}"), bias, *layout)
        if other is None:
            target, given = onednn._convolution_pointwise.default, (x, *operands, activation or "none", scalars, "")
        else:
            onto = _is_done_with(other, node, total)  # the sum may be made in its memory
            target = onednn._convolution_pointwise_.binary if onto else onednn._convolution_pointwise.binary
            given = ((other, x) if onto else (x, other)) + (*operands, "add", 1.0, activation, scalars, "")
        fused = module.graph.call_function(target, given)
    fused.meta |= last.meta | {"place": node.meta["place"], "fused": True}
    last.replace_all_uses_with(fused)
    for replaced in dict.fromkeys((last, total, node)):
        if replaced is not None:
            module.graph.erase_node(replaced)


def _sum_after(node: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """The sum that alone uses a node's output, and what is added, where that is there before."""
    user = _only_user(node)
    if user is None or not (_calls(user, operator.add) or _calls(user, torch.add)) or user.kwargs:
        return None, None
    others = [arg for arg in user.args if arg is not node]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or _shape(others[0]) != _shape(node):
        return None, None
    return (user, others[0]) if others[0].meta["place"] < node.meta["place"] else (None, None)


def _activation_after(node: fx.Node, after_sum: bool) -> tuple[fx.Node, str | None, list[float]]:
    """The activation that alone uses a node's output, its name and numbers; the node itself where there is none.

    Behind a sum only ReLU is part of the operation.
    """
    user = _only_user(node)
    if user is None:
        return node, None, []
    if _calls(user, F.relu) or _calls(user, "relu"):
        return user, "relu", []
    if _calls(user, F.silu) and not after_sum:
        return user, "swish", []
    if _calls(user, "clamp") and len(user.args) == 3 and not after_sum:
        return user, "hardtanh", list(user.args[1:])
    return node, None, []


def _is_done_with(other: fx.Node, node: fx.Node, total: fx.Node) -> bool:
    """Whether ``other`` has memory of its own that nothing reads once ``node`` is computed, nor through a view."""
    return _computes(other) and all(
        user is total or (_computes(user) and user.meta["place"] < node.meta["place"]) for user in other.users)


def _computes(node: fx.Node) -> bool:
    """Whether a node reads what it needs and writes to memory of its own; others might give a view."""
    return "fused" in node.meta or _calls(node, F.relu) or _calls(node, F.batch_norm)


def _drop_whole_slices(graph: fx.Graph) -> None:
    """Take out indices that take everything, such as every first step."""
    for node in list(graph.nodes):
        steps = _steps_of_slices(node)
        if steps is not None and set(steps) == {1}:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _steps_of_slices(node: fx.Node) -> list[int] | None:
    """The step along each axis, where a node is every so many steps of four axes; else None."""
    if not _calls(node, operator.getitem) or not isinstance(node.args[1], tuple) or len(node.args[1]) != 4:
        return None
    if not all(isinstance(part, slice) and part.start is part.stop is None for part in node.args[1]):
        return None
    return [1 if part.step is None else part.step for part in node.args[1]]


def _with_the_stride_of_slices(x: fx.Node, stride: list[int]) -> tuple[fx.Node, list[int]]:
    """A 1x1 convolution of every so many steps takes the steps by its own stride: no copy is made of them.

    (The networks slice for the sake of training: see ``blocks.ResidualBlock``.)
    """
    steps = _steps_of_slices(x)
    if steps is None or steps[:2] != [1, 1]:
        return x, stride
    return x.args[0], [ours * step for ours, step in zip(stride, steps[2:], strict=True)]


def _calls(node: fx.Node, target: Callable | str) -> bool:
    return node.op in ("call_function", "call_method") and node.target == target


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _shape(node: fx.Node) -> torch.Size:
    return node.meta["shape"]


def _pair(value: int | tuple[int, int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
