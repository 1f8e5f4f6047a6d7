import sys
from types import ModuleType

import pytest

from apps.common.media.cluster.engine import _ray


@pytest.mark.parametrize("address", [None, "host:6379"])
def test_what_ray_leaves_is_removed_by_the_process_that_uses_it(tmp_path, monkeypatch, address):
    """It may be alone: the process that was started may have been killed. A Ray that runs elsewhere is left alone."""
    ray = ModuleType("ray")
    folder = tmp_path / "session"

    def init(given: str, **options: object) -> None:
        assert (given, options.get("_temp_dir")) == ((address, None) if address else ("local", str(folder)))
        (folder / "logs").mkdir(parents=True)

    vars(ray).update(init=init, shutdown=lambda: (folder / "logs/last").touch())
    data, exceptions = ModuleType("ray.data"), ModuleType("ray.exceptions")
    vars(ray)["data"], vars(exceptions)["RayError"] = data, RuntimeError
    vars(data)["DataContext"] = type("DataContext", (), {"get_current": staticmethod(lambda: ModuleType("context"))})
    for module in (ray, data, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with _ray(address, folder):
        assert folder.is_dir()
    assert not folder.exists()
