"""A compiled step computes what the plain one does, and where nothing can be compiled training goes on."""

import logging
import shutil

import pytest
import torch

from speakerkit.io.audio import AudioOptions
from speakerkit.models import model_file
from speakerkit.models.networks import initialise, make_network
from speakerkit.training import forward, train

CPU = torch.device("cpu")


@pytest.fixture
def network(make_system):
    system = make_system()
    network = make_network(system.model, system.fbank.num_columns)
    initialise(network, torch.Generator().manual_seed(1))
    return network.train()


def test_a_compiled_forward_and_its_gradient_are_the_plain_ones(network, monkeypatch):
    """Traced and differentiated as torch.compile does; the C++ that inductor would write of it isn't compiled here."""
    monkeypatch.setattr(forward, "BACKEND", "aot_eager")
    features = torch.randn(4, 40, 24, generator=torch.Generator().manual_seed(2))
    gradients = []
    for is_compiled in (False, True):
        network.zero_grad()
        embedding, output = forward.make_forward(network, is_compiled, CPU)(features)
        output.square().sum().backward()
        gradients.append([embedding.detach(), *(p.grad.clone() for p in network.parameters())])
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-4, atol=1e-5)


def test_where_it_cannot_be_compiled_the_log_says_so_in_a_line(network, monkeypatch, caplog):
    def refuse(*args, **options):
        raise RuntimeError("no working C++ compiler\nwith more below")

    monkeypatch.setattr(torch, "compile", refuse)
    made = forward.make_forward(network, True, CPU)
    embedding = made(torch.zeros(2, 40, 24))[0]
    assert embedding.shape == (2, 16) and embedding.requires_grad
    assert caplog.messages == ["[training] compile: not here, steps are not compiled: RuntimeError: no working C++ "
                               "compiler"]


@pytest.fixture
def compiler_that_fails(monkeypatch):
    """``compiler_that_fails(at)``: forwards or gradients break when they are run, as where its cache was cut."""

    def fail(at):
        class Broken(torch.autograd.Function):
            @staticmethod
            def forward(context, value):
                if at == "forward":
                    raise ImportError("/tmp/cache/ab.main.so: file too short\n(a traceback)")
                return value.clone()

            @staticmethod
            def backward(context, gradient):
                raise ImportError("/tmp/cache/cd.main.so: file too short")

        def compile_(plain, **options):
            return lambda features: tuple(Broken.apply(output) for output in plain(features))

        monkeypatch.setattr(torch, "compile", compile_)

    return fail


@pytest.mark.parametrize("at, file", [("forward", "ab"), ("gradient", "cd")])
def test_a_compiler_that_fails_late_costs_no_run(
    train_dir, make_system, tmp_path, compiler_that_fails, caplog, at, file
):
    """Its weights are those of a run that was never to be compiled, batch norm and all."""

    def trained(name, is_compiled):
        system = make_system(num_steps=2, average_from=1.0, head_only=0.0, compile=is_compiled)
        options = train.TrainOptions(device="cpu", precision="float32", nj=1, show=False)
        train.train_model(train_dir, tmp_path / name, system, options, AudioOptions(), lambda n: 0, {})
        return model_file.load_model(tmp_path / name / "model.safetensors").network.state_dict()

    plain = trained("plain", False)
    compiler_that_fails(at)
    fallen_back = trained("compiled", True)
    assert caplog.text.count(f"steps are not compiled: ImportError: /tmp/cache/{file}.main.so: file too short\n") == 1
    for key, value in plain.items():
        torch.testing.assert_close(fallen_back[key], value, rtol=0, atol=0)


def test_each_set_of_trained_weights_is_tried_once(network, monkeypatch):
    calls = []

    def compile_(plain, **options):
        return lambda features: calls.append(len(features)) or plain(features)

    monkeypatch.setattr(torch, "compile", compile_)
    made, features = forward.make_forward(network, True, CPU), torch.ones(2, 40, 24)
    network.eval()
    trunk = [p for name in network.convolutional for p in getattr(network, name).parameters()]
    for is_trained, wanted in ((True, 2), (True, 1), (False, 2), (False, 1), (True, 1)):
        for parameter in trunk:
            parameter.requires_grad_(is_trained)
        calls.clear()
        assert torch.equal(made(features)[0], network(features))
        assert len(calls) == wanted


def test_a_run_is_compiled_where_it_is_asked_for(train_dir, make_system, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(forward, "BACKEND", "aot_eager")
    caplog.set_level(logging.INFO)
    shas = []
    for name, chosen in (("plain", False), ("compiled", True)):
        system = make_system(num_steps=2, average_from=1.0, compile=chosen)
        options = train.TrainOptions(device="cpu", precision="float32", nj=1, show=False)
        train.train_model(train_dir, tmp_path / name, system, options, AudioOptions(), lambda n: 0, {})
        shas.append(model_file.load_model(tmp_path / name / "model.safetensors").network.state_dict())
    for key, value in shas[0].items():
        torch.testing.assert_close(shas[1][key], value, rtol=1e-3, atol=1e-4)
    assert "not compiled" not in caplog.text


@pytest.mark.timeout(900)  # half a minute of processor time, mostly tracing and g++
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles with g++, which isn't here")
def test_a_run_that_inductor_compiles_is_the_plain_one_and_goes_on_exactly(
    train_dir, make_system, tmp_path, caplog
):
    """The C++ is written and compiled for real."""
    options = train.TrainOptions(device="cpu", precision="float32", nj=1, show=False)

    def trained(name, is_compiled):
        system = make_system(num_steps=4, checkpoint_interval=2, average_from=1.0, compile=is_compiled)
        train.train_model(train_dir, tmp_path / name, system, options, AudioOptions(), lambda n: 0, {})
        return model_file.load_model(tmp_path / name / "model.safetensors").network.state_dict()

    plain, straight = trained("plain", False), trained("compiled", True)
    assert "not compiled" not in caplog.text and torch._dynamo.utils.counters["inductor"]
    for key, value in plain.items():
        torch.testing.assert_close(straight[key], value, rtol=1e-3, atol=1e-4)
    shutil.copytree(tmp_path / "compiled", tmp_path / "resumed")
    for name in ("model.safetensors", "checkpoints/step-0000004.safetensors"):  # as if killed after its third step
        (tmp_path / "resumed" / name).unlink()
    torch.compiler.reset()
    caplog.set_level(logging.INFO)
    resumed = trained("resumed", True)
    assert "going on at step 2: " in caplog.text
    for key, value in straight.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=0)
