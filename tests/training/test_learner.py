from adapterhub_training.learner import Ahead


def test_each_step_has_its_own_also_where_a_seed_has_stopped_meanwhile():
    ahead, made = Ahead(8), []

    def make(seeds):
        def of(step):
            made.append(step)
            return step, seeds

        return of

    for step in range(1, 22):
        seeds = (7, 8) if step <= 11 else (8,)
        assert ahead.take(step, seeds, 21, make(seeds)) == (step, seeds)

    assert made == [*range(1, 17), *range(12, 22)]


def test_a_step_past_the_last_is_made_alone():
    assert Ahead(8).take(5, (1,), 3, str) == "5"
