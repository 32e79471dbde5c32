"""Ray Train's trainer without the helper actors that a group on this machine does not need.

Besides its controller and workers, Ray Train 2.60 starts three actors: one for data sets, which trainings here do not pass to
it; one that asks an autoscaler for nodes, which a single machine does not have; and one that frees the workers' resources if
the controller dies while the driver survives, although here the driver ends with it. Each is a process that needs 2 s of
processor time to import ray.train, and a training cannot start before two of them have.
"""

from typing import Any

NEEDLESS = ("DatasetsCallback", "PlacementGroupCleanerCallback")


def trainer_of(local: bool) -> Any:
    """The trainer class: Ray's own for a cluster, a leaner one for this machine's head.

    The leaner one replaces private names of Ray; with a version that lacks them, Ray's own trainer is used.
    """
    from ray.train.torch import TorchTrainer

    if not local:
        return TorchTrainer

    class LeanTrainer(TorchTrainer):
        """See the module."""

        def _create_default_callbacks(self) -> list[Any]:
            made = super()._create_default_callbacks()
            return [callback for callback in made if type(callback).__name__ not in NEEDLESS]

        def _initialize_and_run_controller(self, **given: Any) -> Any:
            if type(given.get("scaling_policy")).__name__ == "FixedScalingPolicy":
                given["scaling_policy"] = fixed(given["scaling_policy"])
            return super()._initialize_and_run_controller(**given)

    return LeanTrainer


def fixed(policy: Any) -> Any:
    """The same policy, with a fixed number of workers and no requests to an autoscaler."""

    class Alone(type(policy)):  # type: ignore[misc]
        """See the function."""

        def after_controller_start(self, train_run_context: Any) -> None:
            """Start no autoscaler actor."""

        def _maybe_send_resource_request(self) -> None:
            """Send no request."""

    return Alone(policy.scaling_config)
