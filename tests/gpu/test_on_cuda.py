"""What needs CUDA: it computes the CPU's numbers. Needs torch, numpy and pytest alone."""

import pytest
import torch

from fuxictr.pytorch.checkpoint.training_state import load_random_state, random_state
from fuxictr.pytorch.debug.forward_walk import unchanged
from fuxictr.pytorch.layers import pair_products
from fuxictr.pytorch.layers.embeddings.lookup import group_rows, sum_by_row
from fuxictr.pytorch.precision import autocast
from tests.gpu.scripts import gpu_agree, gpu_checks, gpu_setup
from tests.needs_gpu import needs_gpu

CUDA = "cuda:0"


@needs_gpu
@pytest.mark.parametrize("model", gpu_setup.MODELS)
def test_a_backbone_trains_as_on_the_cpu(model):
    found = gpu_agree.agree(model, CUDA, num_steps=50, batch_size=512)
    assert found["ok"], found


@needs_gpu
def test_metrics_are_those_of_numpy():
    found = gpu_checks.metrics(CUDA, num_rows=1_000_000)
    assert found["ok"], found


@needs_gpu
def test_a_resumed_training_has_the_same_bits():
    found = gpu_checks.resume(CUDA, num_rows=20_000)
    assert found["ok"], found


@needs_gpu
@pytest.mark.filterwarnings("ignore")  # compilers warn of what they could do better
@pytest.mark.parametrize("model", ["FM", "xDeepFM"])
def test_compiled_code_trains_as_without(model):
    found = gpu_checks.compile_modes(model, CUDA, 20_000, True, [False, True, "auto"])
    assert found["ok"], found


@needs_gpu
@pytest.mark.filterwarnings("ignore")
def test_collective_operations_run_over_nccl():
    found = gpu_checks.one_process_of_several(CUDA, num_rows=4000)
    assert found["ok"], found


@needs_gpu
def test_random_numbers_of_the_device_are_restored():
    device = torch.device(CUDA)
    state = random_state(device)
    drawn = torch.rand(9, device=device), torch.rand(9)
    load_random_state(state, device)
    assert torch.equal(torch.rand(9, device=device), drawn[0])
    assert torch.equal(torch.rand(9), drawn[1])
    model = torch.nn.Dropout().to(device)
    model.weight = torch.nn.Parameter(torch.ones(1, device=device))
    state = random_state(device)
    with unchanged(model):
        model(torch.ones(100, device=device))
    assert torch.equal(random_state(device)["cuda"], state["cuda"])


@needs_gpu
def test_rows_of_a_table_are_summed_as_on_the_cpu():
    rows = torch.randint(50, (400,), dtype=torch.int32)
    values = torch.randn(400, 8)
    expected = sum_by_row(group_rows(rows), values)
    found = sum_by_row(group_rows(rows.to(CUDA)), values.to(CUDA))
    torch.testing.assert_close(found.cpu(), expected)


@needs_gpu
def test_products_are_bfloat16_within_autocast():
    left = torch.randn(3, 4, 8, device=CUDA)
    assert pair_products(left, left).dtype == torch.float32
    with autocast("bf16", torch.device(CUDA)):
        assert pair_products(left, left).dtype == torch.bfloat16
