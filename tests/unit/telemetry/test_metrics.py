from prometheus_client import generate_latest

from workers.telemetry.metrics import Metrics

CONTRACT = {
    "chatkit_events_total": {"type", "outcome"},
    "chatkit_events_waiting": {"state"},
    "chatkit_oldest_event_age_seconds": set(),
    "chatkit_turn_seconds": {"stage"},
    "chatkit_time_to_first_token_seconds": set(),
    "chatkit_attempts_total": {"reason"},
    "chatkit_dead_letters": {"reason"},
    "chatkit_limit_wait_seconds": {"model"},
    "chatkit_limit_used_ratio": {"model", "kind"},
    "chatkit_tokens_total": {"model", "kind"},
    "chatkit_leases": set(),
    "chatkit_fenced_writes_total": set(),
    "chatkit_stream_frames_total": set(),
    "chatkit_streams_open": set(),
    "chatkit_worker_inflight": set(),
    "chatkit_worker_capacity": set(),
    "chatkit_events_ready": set(),
    "chatkit_ready_age_seconds": set(),
    "chatkit_workers": set(),
    "chatkit_workers_desired": set(),
}


def exported(metrics: Metrics) -> dict[str, set[str]]:
    found = {}
    for name, metric in vars(metrics).items():
        if name != "registry":
            (family,) = metric.describe()
            suffix = "_total" if family.type == "counter" else ""
            found[family.name + suffix] = set(metric._labelnames)
    return found


def test_the_catalogue_has_exactly_the_names_and_labels_of_the_contract() -> None:
    assert exported(Metrics()) == CONTRACT


def test_no_label_is_an_id() -> None:
    labels = set().union(*exported(Metrics()).values())
    assert not {label for label in labels if label.endswith("id") or label in {"lane", "user", "tenant", "thread"}}


def test_two_catalogues_of_one_process_do_not_collide() -> None:
    one, other = Metrics(), Metrics()
    one.tokens.labels("gpt-4.1", "input").inc()
    assert b'chatkit_tokens_total{kind="input",model="gpt-4.1"} 1.0' in generate_latest(one.registry)
    assert b"gpt-4.1" not in generate_latest(other.registry)


def test_what_the_state_counts_is_exported_by_its_labels() -> None:
    metrics = Metrics()
    metrics.events.set(3, "chatkit.threads.create", "done")
    exported = generate_latest(metrics.registry)
    assert b'chatkit_events_total{outcome="done",type="chatkit.threads.create"} 3.0' in exported
    assert b"chatkit_stream_frames_total 0.0" in exported
