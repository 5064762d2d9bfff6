import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serl_core.data.replay_buffer import ReplayBuffer, SlotQueue
from serl_core.data.rings import stored_shapes
from serl_core.errors import DataError
from serl_core.testing.episodes import PIXEL_SPEC, STATE_SPEC, make_episode
from serl_core.types import EndReason, Observation


def filled(transitions, capacity=100, spec=STATE_SPEC):
    buffer = ReplayBuffer(spec, capacity)
    for transition in transitions:
        buffer.insert(transition)
    return buffer


def slots_of(queue):
    """Return the slots in it, in order."""
    slots = np.flatnonzero(queue._place >= 0)
    return slots[np.argsort(queue._place[slots])]


def contents(view, buffer):
    """Return every transition of a view as comparable bytes, one by one."""
    slots = slots_of(view._members)
    return keys(jax.tree.map(lambda ring: ring[0], buffer.at(slot)) for slot in slots[:, None])


def keys(transitions):
    return sorted(
        b"|".join(leaf.tobytes() for leaf in jax.tree.leaves((t.observation, t.action, t.next_observation)))
        for t in transitions
    )


class NaiveRing:
    """What the buffer must hold, told slowly: a list of frames, the oldest forgotten first."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.frames = []
        self.steps = []  # (its first frame, transition)
        self.tails = {}  # session: (the frame where its last step ended, that step's provenance)

    def insert(self, t):
        session, sequence, episode, *_ = t.provenance
        frame, last = self.tails.pop(session, (None, None))
        if frame not in self.frames or (last.episode, last.sequence + 1) != (episode, sequence):
            frame = self.new_frame()
        end = self.new_frame()
        self.steps = [step for step in [*self.steps, (frame, t)] if step[0] in self.frames]
        if t.end == EndReason.RUNNING:
            self.tails[session] = end, t.provenance

    def new_frame(self):
        frame = object()
        self.frames = [*self.frames, frame][-self.capacity :]
        return frame


sessions = st.lists(
    st.lists(
        st.tuples(st.integers(1, 8), st.sampled_from([EndReason.SUCCESS, EndReason.TIME_LIMIT, EndReason.RUNNING])),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=3,
)


def interleave(episodes_by_session, random):
    """Return the steps of several sessions as they may arrive: in order per session, some lost.

    The arm stands still, so that only the pictures tell the frames apart.
    """
    streams = []
    for session, episodes in enumerate(episodes_by_session):
        stream = []
        for episode, (steps, end) in enumerate(episodes):
            stream += make_episode(
                PIXEL_SPEC,
                session=f"s{session}",
                episode=episode,
                first_sequence=len(stream),
                steps=steps,
                end=end,
                interventions=range(0, steps, 2),
            )
        streams.append([at_rest(t) for t in stream if random.random() > 0.1])
    order = [i for i, stream in enumerate(streams) for _ in stream]
    random.shuffle(order)
    return [streams[i].pop(0) for i in order]


def at_rest(transition):
    rest = np.zeros(3, np.float32)
    return transition._replace(
        observation=transition.observation._replace(proprio=rest),
        next_observation=transition.next_observation._replace(proprio=rest),
    )


@settings(max_examples=150)
@given(sessions, st.integers(2, 40), st.randoms(use_true_random=False))
def test_no_observation_pairs_with_another_segment(episodes_by_session, capacity, random):
    """Fault 13 of earlier systems: a next observation taken across a gap, an end or the ring's seam."""
    buffer, model = ReplayBuffer(PIXEL_SPEC, capacity), NaiveRing(capacity)
    for transition in interleave(episodes_by_session, random):
        buffer.insert(transition)
        model.insert(transition)
        held = [t for _, t in model.steps]
        assert contents(buffer, buffer) == keys(held)
        assert contents(buffer.interventions, buffer) == keys([t for t in held if t.is_intervention])


def test_each_frame_is_stored_once():
    episode = make_episode(steps=9)
    assert len(filled(episode, capacity=10)) == 9


def test_the_last_frame_of_an_episode_is_never_drawn_as_a_start():
    episode = make_episode(steps=3)
    batch = filled(episode).sample(np.random.default_rng(0), (500,))
    last = episode[-1].next_observation.proprio
    assert not (batch.observation.proprio == last).all(-1).any()
    assert len(np.unique(batch.observation.proprio, axis=0)) == 3


def test_a_step_that_starts_elsewhere_than_the_last_ended_begins_a_segment():
    first, second = make_episode(steps=2, end=EndReason.RUNNING)
    moved = second._replace(observation=make_episode(seed=5)[0].observation)
    assert contents(*[filled([first, moved])] * 2) == keys([first, moved])


def test_the_discount_is_the_one_of_the_transition():
    """Faults 5 and 6 of earlier systems: a time limit, an operator's stop or a fault stored as a true end."""
    for end in EndReason:
        batch = filled(make_episode(steps=1, end=end)).sample(np.random.default_rng(0), (1,))
        assert (batch.discount[0], batch.end[0]) == (0.0 if end.is_terminal else 1.0, end)


def test_a_sample_has_the_leading_dims_asked_for_and_fixed_types():
    batch = filled(make_episode(PIXEL_SPEC, steps=6), spec=PIXEL_SPEC).sample(np.random.default_rng(0), (4, 2))
    for array, dtype, shape in (
        (batch.observation.proprio, np.float32, (4, 2, 3)),
        (batch.next_observation.images["side"], np.uint8, (4, 2, 6, 4, 3)),
        (batch.observation.features["wrist"], np.float16, (4, 2, 2, 2, 8)),
        (batch.action, np.float32, (4, 2, 2)),
        (batch.reward, np.float32, (4, 2)),
        (batch.discount, np.float32, (4, 2)),
        (batch.is_intervention, np.bool_, (4, 2)),
        (batch.end, np.int8, (4, 2)),
    ):
        assert (array.dtype, array.shape, array.flags.c_contiguous) == (dtype, shape, True)


def test_pictures_and_features_stay_with_their_step():
    episode = make_episode(PIXEL_SPEC, steps=12)
    buffer = filled(episode, capacity=6, spec=PIXEL_SPEC)
    batch = buffer.sample(np.random.default_rng(0), (50,))
    by_proprio = {t.observation.proprio.tobytes(): t for t in episode}
    for i in range(50):
        t = by_proprio[batch.observation.proprio[i].tobytes()]
        np.testing.assert_array_equal(batch.observation.images["wrist"][i], t.observation.images["wrist"])
        np.testing.assert_array_equal(batch.next_observation.images["side"][i], t.next_observation.images["side"])
        np.testing.assert_array_equal(batch.observation.features["wrist"][i], t.observation.features["wrist"])


COPIES_SPEC = dataclasses.replace(PIXEL_SPEC, image_shapes={}, feature_copies=3)


def test_several_copies_are_stored_with_a_leading_axis_and_read_without_it():
    assert stored_shapes(PIXEL_SPEC) == {"wrist": (2, 2, 8)}
    assert stored_shapes(COPIES_SPEC) == {"wrist": (3, 2, 2, 8)}
    batch = filled(make_episode(COPIES_SPEC), spec=COPIES_SPEC).sample(np.random.default_rng(0), (4, 2))
    assert batch.observation.features["wrist"].shape == (4, 2, 2, 2, 8)
    assert batch.next_observation.features["wrist"].flags.c_contiguous


def test_each_place_of_a_batch_gets_one_of_its_own_copies_all_alike_often():
    """Taken by the slot alone, a copy could belong to another frame."""
    episode = make_episode(COPIES_SPEC, steps=5)
    batch = filled(episode, spec=COPIES_SPEC).sample(np.random.default_rng(0), (900,))
    chosen, next_chosen = [], []
    for i in range(900):
        (step,) = [t for t in episode if np.array_equal(t.observation.proprio, batch.observation.proprio[i])]
        for observation, original, choices in (
            (batch.observation, step.observation, chosen),
            (batch.next_observation, step.next_observation, next_chosen),
        ):
            same = (original.features["wrist"] == observation.features["wrist"][i]).all((1, 2, 3))
            (choice,) = np.flatnonzero(same)
            choices.append(int(choice))
    for choices in (chosen, next_chosen):
        assert np.abs(np.bincount(choices) / 300 - 1).max() < 0.2
    assert chosen != next_chosen


def test_without_a_generator_the_first_copy_is_read():
    episode = make_episode(COPIES_SPEC, steps=3)
    buffer = filled(episode, spec=COPIES_SPEC)
    batch = buffer.at(slots_of(buffer._members))
    for i, step in enumerate(episode):
        np.testing.assert_array_equal(batch.observation.features["wrist"][i], step.observation.features["wrist"][0])


def test_the_copies_drawn_depend_on_the_seed_alone():
    buffer = filled(make_episode(COPIES_SPEC, steps=5), spec=COPIES_SPEC)
    one, two, other = (buffer.sample(np.random.default_rng(seed), (50,)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.observation.features["wrist"], two.observation.features["wrist"])
    assert (one.observation.features["wrist"] != other.observation.features["wrist"]).any()


def test_copies_of_another_number_are_refused_by_name():
    two = dataclasses.replace(COPIES_SPEC, feature_copies=2)
    with pytest.raises(
        DataError, match=r"observation\.features/wrist has shape \(2, 2, 2, 8\), the task's \(3, 2, 2, 8\)"
    ):
        ReplayBuffer(COPIES_SPEC, 10).insert(make_episode(two, steps=1)[0])


def test_compressed_frames_are_not_kept():
    buffer = filled(make_episode(frames=("wrist",)))
    assert buffer.sample(np.random.default_rng(0), (2,)).observation.frames == {}


def test_sampling_is_uniform():
    buffer = filled(make_episode(steps=4))
    drawn = buffer.draw(np.random.default_rng(0), (40_000,))
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 4
    assert np.abs(counts / 10_000 - 1).max() < 0.05


def test_a_batch_does_not_change_when_the_buffer_does():
    buffer = filled(make_episode(steps=3), capacity=4)
    batch = buffer.sample(np.random.default_rng(0), (8,))
    before = batch.observation.proprio.copy()
    for transition in make_episode(episode=1, first_sequence=3, steps=6):
        buffer.insert(transition)
    np.testing.assert_array_equal(batch.observation.proprio, before)


def test_a_rebuilt_buffer_gives_the_same_batches():
    history = [t for e in range(9) for t in make_episode(episode=e, first_sequence=5 * e)]
    one, two = filled(history, capacity=20), filled(history, capacity=20)
    mine, theirs = (buffer.sample(np.random.default_rng(3), (9,)) for buffer in (one, two))
    np.testing.assert_array_equal(mine.observation.proprio, theirs.observation.proprio)
    np.testing.assert_array_equal(mine.action, theirs.action)


def test_a_buffer_rebuilt_from_the_newest_episodes_gives_the_same_batches():
    """What a resume needs of a long log: with the order of its slots by history, all of it."""
    sessions = [
        [
            t
            for e in range(40)
            for t in make_episode(session=name, episode=e, first_sequence=5 * e, interventions=(1, 2))
        ]
        for name in "ab"
    ]
    history = [step for pair in zip(*sessions, strict=True) for step in pair]
    whole, newest = filled(history, capacity=50), filled(history[-60:], capacity=50)
    for mine, theirs in ((whole, newest), (whole.interventions, newest.interventions)):
        batches = (view.sample(np.random.default_rng(3), (99,)) for view in (mine, theirs))
        jax.tree.map(np.testing.assert_array_equal, *batches)


def test_demonstrations_are_never_overwritten():
    episodes = [make_episode(episode=e, first_sequence=5 * e) for e in range(3)]
    buffer = ReplayBuffer.holding(STATE_SPEC, episodes)
    assert contents(buffer, buffer) == keys([t for episode in episodes for t in episode])
    full = ReplayBuffer(STATE_SPEC, 6, overwrites=False)
    for transition in episodes[0]:
        full.insert(transition)
    with pytest.raises(DataError, match="6 frames is full"):
        full.insert(episodes[1][0])
    assert contents(full, full) == keys(episodes[0])


def test_no_demonstration_at_all_makes_an_empty_buffer():
    assert len(ReplayBuffer.holding(STATE_SPEC, [])) == 0


STEP = make_episode(steps=1)[0]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("action", STEP._replace(action=np.zeros(7, np.float32))),
        ("next_observation.proprio", STEP._replace(next_observation=Observation(np.zeros(1, np.float32)))),
        ("observation.images", make_episode(PIXEL_SPEC, steps=1)[0]._replace(action=STEP.action)),
    ],
)
def test_transitions_of_another_task_are_refused_by_name(name, step):
    """A vector of length 1 would otherwise be repeated over the whole row."""
    with pytest.raises(DataError, match=rf"^{name} .* the task's .*: recorded for another task"):
        ReplayBuffer(STATE_SPEC, 10).insert(step)


def test_sampling_from_nothing_is_an_error():
    with pytest.raises(DataError, match="no transition to sample"):
        ReplayBuffer(STATE_SPEC, 10).interventions.sample(np.random.default_rng(0), (1,))


@given(st.lists(st.sampled_from(["end", "step", "late step", "all late steps"]), max_size=60), st.integers(0, 99))
def test_a_queue_holds_what_a_list_holds_and_draws_from_all_of_it(frames, seed):
    """As a ring of ten does it: the oldest slot goes, and some come in long after the others of their time."""
    queue, model, late = SlotQueue(10), [], []
    rng = np.random.default_rng(seed)
    for i, frame in enumerate(frames):
        slot = i % 10
        queue.discard(slot)
        model, late = ([kept for kept in slots if kept != slot] for slots in (model, late))
        added = {"end": [], "step": [slot], "late step": [], "all late steps": late}[frame]
        late = late + [slot] if frame == "late step" else [kept for kept in late if kept not in added]
        for each in added:
            queue.add(each)
        model += added
        assert len(queue) == len(model)
        assert slots_of(queue).tolist() == model
        if model:
            assert set(queue.draw(rng, 200).tolist()) == set(model)


def test_draws_are_uniform_over_a_queue_with_holes():
    queue = SlotQueue(10)
    for slot in range(10):
        queue.add(slot)
    for slot in (0, 2, 3, 4, 8):
        queue.discard(slot)
    counts = np.bincount(queue.draw(np.random.default_rng(0), 50_000), minlength=10)
    assert set(np.flatnonzero(counts)) == {1, 5, 6, 7, 9}
    assert np.abs(counts[counts > 0] / 10_000 - 1).max() < 0.05


def ends_of(buffer):
    """Return (reward, discount, end) of every transition, by its place."""
    batch = buffer.at(slots_of(buffer._members))
    return list(zip(batch.reward.tolist(), batch.discount.tolist(), batch.end.tolist(), strict=True))


def test_a_relabelled_episode_ends_otherwise_and_nothing_else_changes():
    episodes = [*make_episode(episode=0), *make_episode(episode=1, first_sequence=5)]
    buffer, before = filled(episodes), filled(episodes)
    assert buffer.relabel("session", 0, "success")
    changed = ends_of(buffer)
    assert changed[4] == (1.0, 0.0, EndReason.SUCCESS)
    assert changed[:4] + changed[5:] == ends_of(before)[:4] + ends_of(before)[5:]
    assert list(contents(buffer, buffer)) == list(contents(before, before))


def test_a_relabel_that_is_taken_back_leaves_no_trace():
    steps = make_episode(end=EndReason.SUCCESS)
    steps[-1] = steps[-1]._replace(reward=1.0, discount=0.0)
    buffer = filled(steps)
    before = ends_of(buffer)
    for label in ("failure", "success", "failure"):
        buffer.relabel("session", 0, label)
    assert ends_of(buffer)[-1] == (0.0, 1.0, EndReason.OPERATOR_STOP)
    buffer.relabel("session", 0, None)
    assert ends_of(buffer) == before


def test_an_episode_that_is_not_there_or_has_no_end_is_not_relabelled():
    buffer = filled(make_episode(end=EndReason.RUNNING))
    assert not buffer.relabel("session", 0, "success")
    assert not buffer.relabel("session", 1, "success")
    assert not buffer.relabel("other", 0, "success")


def test_what_was_overwritten_is_not_relabelled_and_what_came_in_its_place_stays():
    steps = [t for episode in range(6) for t in make_episode(episode=episode, first_sequence=5 * episode)]
    buffer = filled(steps[:5], capacity=12)
    buffer.relabel("session", 0, "success")
    for transition in steps[5:]:
        buffer.insert(transition)
    before = ends_of(buffer)
    assert not buffer.relabel("session", 0, None)
    assert ends_of(buffer) == before
    assert buffer.relabel("session", 5, "success")
    assert len(buffer._ends) == len(buffer._ended) <= 3
    assert len(buffer._as_sent) == 1
