"""Ray Train's trainer without the helpers that a group on this machine has no use for.

Beside its controller and its workers Ray Train 2.60 starts an actor for data sets, which trainings here do not pass to it,
one that asks an autoscaler for nodes, which a single machine does not have, and one that frees the workers' room if the
controller dies and the driver lives on: here the driver ends with it. Each is a process that takes 2 s of processor time to
import ray.train, and the start of a training waits for two of them.
"""

from typing import Any

NEEDLESS = ("DatasetsCallback", "PlacementGroupCleanerCallback")


def trainer_of(local: bool) -> Any:
    """The class of the trainer: Ray's own for a cluster, a leaner one for this machine's head.

    What it changes are names within Ray: where another version has not got them, Ray's own way is taken.
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
    """The same policy, a fixed number of workers, which does not ask an autoscaler for them."""

    class Alone(type(policy)):  # type: ignore[misc]
        """See the function."""

        def after_controller_start(self, train_run_context: Any) -> None:
            """Nobody is asked."""

        def _maybe_send_resource_request(self) -> None:
            """Nobody is asked."""

    return Alone(policy.scaling_config)
