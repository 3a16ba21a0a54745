"""Several at once: threads, pipelines of one class, a shared transformer, two transformers; and what is refused."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet1DModel
from small import PIPELINES, Small, output
from small_parts import rows
from watch import same

import skipdit
from skipdit.attach import Runs
from skipdit.core.policy import Policy
from skipdit.core.what import forecast, hold, residual
from skipdit.core.when import Drift, Every
from skipdit.core.where import Inner

HOLD = Policy(Inner(1, 1), Every(2), hold())
OTHER = Policy(Inner(2, 1), Every(3), forecast(1))


def sibling(small: Small) -> Small:
    """A second pipeline with the same transformer and a scheduler of its own."""
    parts = {**small.pipe.components, "scheduler": copy.deepcopy(small.pipe.scheduler)}
    pipe = type(small.pipe)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return Small(pipe, small.fixed, small.texts, small.negatives, small.on, small.off, passes=small.passes)


def cached(small, policy, **call):
    with skipdit.attach(small.pipe, policy):
        return output(small, **call)


@pytest.mark.parametrize("name", ["flux-cfg", "lumina2", "latte"])
def test_three_threads_share_a_transformer_each_with_its_own_policy_or_none(name):
    pipes = [PIPELINES[name]()]
    pipes += [sibling(pipes[0]), sibling(pipes[0])]
    policies = [HOLD, OTHER, None]
    sample = [output(p) if policy is None else cached(p, policy) for p, policy in zip(pipes, policies, strict=True)]
    assert not torch.equal(sample[0], sample[1])
    together = threading.Barrier(3, timeout=60)

    def thread(place):
        together.wait()
        images = []
        for _ in range(3):
            if policies[place] is None:
                images.append(output(pipes[place]))
            else:
                images.append(cached(pipes[place], policies[place]))
        return images

    with ThreadPoolExecutor(3) as pool:
        for images, want in zip(pool.map(thread, range(3)), sample, strict=True):
            assert all(same(image, want) for image in images)


def test_enabled_here_it_holds_in_another_thread_with_a_run_of_its_own():
    small = PIPELINES["flux-cfg"]()
    want = cached(small, HOLD)
    attached = skipdit.attach(small.pipe, HOLD).enable()

    def thread():
        image = output(small)
        return image, attached.report().steps

    with ThreadPoolExecutor(1) as pool:
        image, steps = pool.submit(thread).result()
    assert same(image, want)
    assert steps == 6
    assert not attached.runs  # this thread has not run anything
    with pytest.raises(ValueError, match="nothing has run"):
        attached.report()
    assert same(output(small, steps=6), want)
    assert attached.report().steps == 6
    attached.disable()


def test_of_two_pipelines_of_a_class_only_the_attached_one_changes():
    one, two = PIPELINES["sd3"](), PIPELINES["sd3"]()
    bare, want = output(two), cached(one, HOLD)
    attached = skipdit.attach(one.pipe, HOLD).enable()
    assert same(output(two), bare)
    assert same(output(one), want)
    assert same(output(two), bare)
    attached.disable()
    attached.disable()  # does nothing where it is off
    assert same(output(one), bare)
    assert same(output(two), bare)
    assert same(cached(two, HOLD), want)


@pytest.mark.parametrize("name", ["sd3", "lumina2"])
def test_a_shared_transformer_is_attached_for_both_pipelines_and_counted_right(name):
    """Enabled on one pipeline, the other with the same transformer is cached too: in one thread both count right."""
    one = PIPELINES[name]()
    two = sibling(one)
    bare, want, shorter = output(one), cached(one, HOLD), cached(one, HOLD, steps=4)
    attached = skipdit.attach(one.pipe, HOLD).enable()
    assert same(output(two), want)
    assert attached.report().steps == 6
    assert same(output(one, steps=4), shorter)
    assert same(output(two), want)
    assert attached.report().steps == 6
    with pytest.raises(RuntimeError, match="has a policy attached in this thread already"):
        skipdit.attach(two.pipe, OTHER).enable()
    attached.disable()
    assert same(output(two), bare)


def test_two_transformers_share_a_clock_and_a_report():
    small = PIPELINES["wan22"]()
    with skipdit.attach(small.pipe, HOLD) as runs:
        want = output(small)
    assert isinstance(runs, Runs)
    assert list(runs) == ["transformer", "transformer_2"]
    assert len(runs) == 2
    first, second = runs.values()
    assert [step.index for step, _, _ in first.passes] == [0, 0, 1, 1]
    assert [step.index for step, _, _ in second.passes] == [2, 2, 3, 3, 4, 4, 5, 5]
    assert {step.total for run in (first, second) for step, _, _ in run.passes} == {6}
    report = runs.report()
    assert (report.steps, report.computed, report.passes) == (6, 3, 12)
    assert report.flops == first.report().flops + second.report().flops
    attached = skipdit.attach(small.pipe, HOLD).enable()
    assert same(output(small), want)
    assert attached.report() == report
    assert set(attached.runs) == {"transformer", "transformer_2"}
    attached.disable()


@pytest.mark.parametrize("mode", ["with", "enable"])
def test_the_report_leaves_out_a_transformer_that_the_last_run_did_without(mode):
    """One step, all of it noisy: the second transformer of Wan 2.2 has nothing to do."""
    small = PIPELINES["wan22"]()
    attached = skipdit.attach(small.pipe, HOLD)
    run = attached.__enter__() if mode == "with" else attached.enable()
    output(small, output_type="latent")
    assert run.report().steps == 6
    output(small, steps=1, output_type="latent")
    assert (run.report().steps, run.report().passes) == (1, 2)
    output(small, output_type="latent")
    assert run.report().steps == 6
    attached.__exit__() if mode == "with" else attached.disable()


def test_a_window_in_fractions_spans_both_transformers():
    small = PIPELINES["wan22"]()
    with skipdit.attach(small.pipe, skipdit.methods.skip_cache(every=2, hi=0.5)) as runs:
        output(small, output_type="latent")
    spared = sorted({event.step for run in runs.values() for event in run.trace if not event.computed})
    assert spared == [4]  # of 6: steps 0 to 3 lie above one half


# ---- what is refused


def test_nested_and_twice_is_refused():
    small = PIPELINES["sd3"]()
    bare, attached = output(small), skipdit.attach(small.pipe, HOLD).enable()
    for again in (lambda: attached.enable(), lambda: skipdit.attach(small.pipe.transformer, OTHER).enable()):
        with pytest.raises(RuntimeError, match=r"SD3Transformer2DModel has a policy attached .* disable it"):
            again()
    with pytest.raises(RuntimeError, match="has a policy attached"):
        skipdit.attach(small.pipe, OTHER).__enter__()
    want = output(small)
    assert not torch.equal(want, bare)  # the refused ones left the first as it was
    attached.disable()
    with skipdit.attach(small.pipe, HOLD):
        with pytest.raises(RuntimeError, match="has a policy attached"):
            skipdit.attach(small.pipe, OTHER).__enter__()
        with pytest.raises(RuntimeError, match="has a policy attached"):
            skipdit.attach(small.pipe, OTHER).enable()
        assert same(output(small), want)
    assert same(output(small), bare)


def test_one_of_two_transformers_that_is_taken_leaves_the_other_free():
    small = PIPELINES["wan22"]()
    bare = output(small)
    with skipdit.attach(small.pipe.transformer_2, OTHER):
        for refused in (lambda: skipdit.attach(small.pipe, HOLD).enable(), lambda: cached(small, HOLD)):
            with pytest.raises(RuntimeError, match="has a policy attached"):
                refused()
        with skipdit.attach(small.pipe.transformer, HOLD):
            assert not torch.equal(output(small), bare)
    assert same(output(small), bare)


def test_a_pipeline_without_a_known_denoiser_is_refused_by_name():
    size = dict(sample_size=16, block_out_channels=(8, 8), layers_per_block=1, extra_in_channels=16)
    unet = UNet1DModel(
        **size, down_block_types=("DownBlock1DNoSkip", "DownBlock1D"), up_block_types=("UpBlock1D", "UpBlock1DNoSkip")
    )
    with pytest.raises(TypeError, match=r"DDPMPipeline has no denoiser .*unet \(UNet1DModel\).*skipdit\.infer"):
        skipdit.attach(DDPMPipeline(unet, DDPMScheduler()), HOLD)
    with pytest.raises(TypeError, match=r"UNet1DModel carries no Backbone: .*skipdit\.infer"):
        skipdit.attach(unet, HOLD)
    with pytest.raises(TypeError, match="dict is neither a model nor a diffusers pipeline"):
        skipdit.attach({}, HOLD)
    with pytest.raises(TypeError, match="call the method first"):
        skipdit.attach(PIPELINES["sd3"]().pipe, skipdit.methods.skip_cache)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 0.0, float("inf")])
def test_a_senseless_threshold_is_refused_when_the_policy_is_made(value):
    with pytest.raises(ValueError, match="Drift: threshold"):
        Policy(Inner(1, 0), Drift(value), residual())


def test_a_depth_that_leaves_no_block_is_refused_and_leaves_nothing():
    small = PIPELINES["sd3"]()
    bare = output(small)
    for go in ("__enter__", "enable"):
        with pytest.raises(ValueError, match="leaves no block to spare in SD3Transformer2DModel with 6 blocks"):
            getattr(skipdit.attach(small.pipe, Policy(Inner(3, 3), Every(2), hold())), go)()
    assert same(output(small), bare)
    assert cached(small, HOLD).isfinite().all()


def test_another_batch_within_one_step_is_a_stream_and_never_a_broadcast():
    """A loop of one's own that changes the batch midway: 2 rows, then 1."""
    model = PIPELINES["dit"]().pipe.transformer
    with torch.no_grad(), skipdit.attach(model, HOLD) as run:
        for t, batch in ((900, 2), (800, 1), (700, 1), (600, 2)):
            label = torch.zeros(batch, dtype=torch.long)
            model(rows(0, batch, 4, 8, 8), torch.full((batch,), t), label)
    assert [(step.index, stream) for step, stream, _ in run.passes] == [
        (0, "main"), (1, "main, shape 1"), (2, "main, shape 1"), (3, "main")
    ]  # fmt: skip
    assert [event.computed for event in run.trace] == [True, True, True, False]
