"""Tails on a Ray cluster of two workers, one of which is killed while requests come in."""

import threading

import pytest
import tritonclient.grpc as triton

from isplit.errors import InputError
from isplit.runtime.server import serving
from isplit.runtime.server.ray import RayEngines

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

# Ray leaves sockets and processes to the end of the process; the warnings are about its own code.
pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]

CLIENTS = 3
BEFORE, AFTER = 10, 20


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        workers = [cluster.add_node(num_cpus=1, wait=False) for _ in range(2)]
        cluster.wait_for_nodes()
        yield cluster, workers
    finally:
        cluster.shutdown()


class Load:
    """Clients that ask without a pause, and keep what they got: True for the right answer."""

    def __init__(self, tiny, address):
        self.tiny = tiny
        self.address = address
        self.answers = []
        self.changed = threading.Condition()
        self.stopping = False
        self.threads = [threading.Thread(target=self.ask, args=(number,)) for number in range(CLIENTS)]

    def ask(self, number):
        with triton.InferenceServerClient(self.address) as client:
            while not self.stopping:
                row = (number := number + 1) % len(self.tiny.images)
                given = triton.InferInput("latent", [1, 4, 4, 4], "UINT8")
                given.set_data_from_numpy(self.tiny.latents["stage.1"][row : row + 1])
                try:
                    reply = client.infer("tiny.stage.1", [given], client_timeout=60)
                    answer = bool((reply.as_numpy("logits") == self.tiny.logits[row]).all())
                except triton.InferenceServerException as error:
                    answer = str(error)
                with self.changed:
                    self.answers.append(answer)
                    self.changed.notify_all()

    def wait_for(self, more):
        with self.changed:
            wanted = len(self.answers) + more
            assert self.changed.wait_for(lambda: len(self.answers) >= wanted, timeout=120)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join()


def test_a_worker_dies(tiny, cluster):
    """Every request is answered rightly, also those that a killed worker had taken."""
    cluster, workers = cluster
    with (
        RayEngines(tiny.bundle, address=cluster.address, min_replicas=2, max_replicas=2) as engines,
        serving(tiny.bundle, make_engine=engines.make_engine) as server,
        Load(tiny, server.address) as load,
    ):
        load.wait_for(BEFORE)
        cluster.remove_node(workers[0], allow_graceful=False)
        load.wait_for(AFTER)
    assert {True} == set(load.answers)


def test_no_cluster(tiny):
    """Without a cluster at the address the server does not start, and says so."""
    with pytest.raises(InputError, match="cannot join"), RayEngines(tiny.bundle, address="127.0.0.1:1"):
        pass
