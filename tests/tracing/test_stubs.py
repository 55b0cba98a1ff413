"""Stand-ins for torch's compiler, which make way for it."""

import subprocess
import sys

import pytest
import torch
from torch.fx.experimental import symbolic_shapes as real_shapes

from cnnscope.tracing import stubs as module
from cnnscope.tracing.stubs import light

SHAPES = "torch.fx.experimental.symbolic_shapes"


def run(program):
    """A program in a process of its own, which has to end well."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.broad
def test_a_stand_in_leaves_and_makes_way_and_what_was_kept_of_it_is_as_good_as_the_real_thing():
    # with a module that is compiled after a run with the stand-in
    run("""
import sys, torch
import cnnscope
from cnnscope.tracing.stubs import light
model = torch.nn.Linear(2, 2)
cnnscope.summary(model, '1x2')
assert not {'torch._dynamo', 'sympy'} & set(sys.modules)
compiled = []
def apart(x):
    compiled.append(torch.compiler.is_dynamo_compiling())
    return x * 2
with light(): assert 'torch._dynamo' in sys.modules
assert not {'torch._dynamo', 'sympy'} & set(sys.modules)
with light():
    import torch._dynamo as kept, sympy
    from torch._dynamo.utils import is_compile_supported
    apart = torch.compiler.disable(apart)
    assert apart(2) == 4
    assert 'triton' not in sys.modules and 'mpmath' not in sys.modules
    assert not isinstance(torch, sympy.Basic)
    class Own(sympy.Basic): pass
    assert isinstance(Own(), sympy.Basic) and 'mpmath' in sys.modules
    import torch._dynamo.config as config
    assert config is sys.modules['torch._dynamo.config'] is kept.config
    assert config.__spec__.origin == config.__file__
assert kept.reset is torch._dynamo.reset
assert is_compile_supported('cpu') == torch._dynamo.utils.is_compile_supported('cpu')
def outer(x):
    return apart(x + 1) + 1
graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward
assert torch.compile(outer, backend=backend)(torch.ones(())) == 5
assert len(graphs) == 2 and not any(compiled)
torch.compile(model, backend=backend)(torch.ones(1, 2))
assert len(graphs) == 3
""")


@pytest.mark.broad
def test_whoever_asks_what_people_ask_of_modules_is_answered():
    run(
        """
import importlib.util, sys
import torch
from cnnscope.tracing.stubs import light
with light():
    assert importlib.util.find_spec('sympy') is not None
    import torch.fx.experimental.symbolic_shapes
    assert torch.fx.experimental.symbolic_shapes.guard_int(3) == 3
    from sympy import Basic
    assert 'sympy.core' not in sys.modules
    import sympy
    assert sympy.__version__[0].isdigit()
    assert issubclass(sympy.Symbol, Basic)
    assert isinstance(Basic(), sympy.Basic)
assert not hasattr(torch.fx.experimental, 'symbolic_shapes') or SHAPES in sys.modules
""".replace("SHAPES", repr(SHAPES))
    )


def test_nothing_stands_in_for_what_is_there():
    import torch._dynamo as real

    with light():
        assert sys.modules["torch._dynamo"] is real
        assert sys.modules[SHAPES] is real_shapes


PLAIN = {
    bool: [(True,), (False,), (True, False), (True, True, True), (False, False)],
    int: [(0,), (7,), (3, 3), (3, 4), ((3, 4), (3, 4)), ([3], (3, 4)), ([1, 2], (1, 3))],
}


@pytest.mark.filterwarnings("ignore:guard_size_oblivious:FutureWarning")
@pytest.mark.parametrize("name", module._OFFERS[SHAPES])
def test_a_stand_in_says_of_plain_values_what_the_real_function_says(name):
    real = getattr(real_shapes, name, None)
    if real is None:
        pytest.skip("not in this torch")
    said = 0
    for arguments in PLAIN[bool] if name in module._OF_BOOLS else PLAIN[int]:
        try:
            expected = real(*arguments)
        except (AssertionError, TypeError):
            continue  # not what it takes
        answer = module._OFFERS[SHAPES][name](*arguments)
        assert answer == expected, arguments
        said += 1
    assert said


def test_symbols_are_for_the_real_functions():
    environment = real_shapes.ShapeEnv()
    symbol = environment.create_unbacked_symint()
    offers = module._OFFERS[SHAPES]
    assert offers["guard_or_false"](symbol == 3) is False
    assert offers["guard_or_true"](symbol == 3) is True
    assert isinstance(offers["sym_eq"]((symbol,), (3,)), torch.SymBool)
    assert isinstance(offers["sym_and"](symbol == 3, symbol == 4), torch.SymBool)
    assert len(offers["free_unbacked_symbols"](symbol)) == 1
    assert len(offers["free_unbacked_symbols"](torch.empty(3, device="meta"))) == 0
